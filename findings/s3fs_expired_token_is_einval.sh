#!/usr/bin/env bash
# s3fs 2026.9.0: a token that has expired is "invalid argument", not "permission denied".
#
# S3 answers a request with an expired session token by status 400 and the code ExpiredToken. One
# would expect s3fs to raise PermissionError, as it does for 403, and as it does where it sees that
# code. But opening a file begins with HEAD, whose answers have no body, so no code either: what is
# left is "400 Bad Request", which becomes OSError with errno EINVAL. Whoever sorts errors by errno
# takes it for a fault of the file. A request whose answer has a body (listing) gives PermissionError.
#
# Seen 2026-11-29, Linux x86-64, Python 3.11:
#   open: OSError EINVAL
#   list: PermissionError None
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet s3fs==2026.9.0 fsspec==2026.9.0 aiobotocore==3.10.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import errno
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import s3fs

BODY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"""


class Expired(BaseHTTPRequestHandler):
    """What S3 answers to any request with a token that has expired."""

    def do_HEAD(self):
        self.send_response(400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.send_response(400)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Expired)
threading.Thread(target=server.serve_forever, daemon=True).start()
keys = {"key": "made-up", "secret": "made-up", "token": "made-up"}
system = s3fs.S3FileSystem(
    **keys, endpoint_url=f"http://127.0.0.1:{server.server_port}", skip_instance_cache=True
)
found = {}
for name, call in (("open", lambda: system.open("bucket/a.wav")), ("list", lambda: system.ls("bucket/a"))):
    try:
        call()
        found[name] = "nothing"
    except OSError as error:
        found[name] = f"{type(error).__name__} {errno.errorcode.get(error.errno)}"
    print(f"{name}: {found[name]}")
sys.exit(found != {"open": "OSError EINVAL", "list": "PermissionError None"})
PYTHON
