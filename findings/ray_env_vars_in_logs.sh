#!/usr/bin/env bash
# Ray 2.60.0: the values of runtime_env={"env_vars": ...} are written to its logs in clear text.
#
# env_vars of a runtime_env is the documented way to give actors the keys that they need (AWS_...).
# One would expect the values to stay between the processes. The agent that prepares environments
# logs the whole serialized runtime_env, keys included, at its usual level, and the file stays in the
# session's folder. What is handed to an actor as an argument of its constructor, and put into
# os.environ there, is in no log.
#
# Seen 2026-11-29, Linux x86-64, Python 3.11:
#   runtime_env: the value is in runtime_env_agent.log
#   argument:    the value is in no file of the logs
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ray==2.60.0
cd "$work"
cat > actors.py <<'PYTHON'
import os
import sys
from pathlib import Path

import ray

VALUES = {"runtime_env": "made-up-value-4711", "argument": "made-up-value-0815"}


@ray.remote
class Reader:
    def __init__(self, variables):
        os.environ.update(variables)

    def key(self):
        return os.environ["MADE_UP_KEY"]


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error",
         _temp_dir=sys.argv[1])
given = {"env_vars": {"MADE_UP_KEY": VALUES["runtime_env"]}}
one = Reader.options(runtime_env=given).remote({})
assert ray.get(one.key.remote()) == VALUES["runtime_env"]
ray.kill(one)
other = Reader.remote({"MADE_UP_KEY": VALUES["argument"]})
assert ray.get(other.key.remote()) == VALUES["argument"]
ray.shutdown()
found = {}
for way, value in VALUES.items():
    files = Path(sys.argv[1]).rglob("*")
    found[way] = sorted({f.name for f in files if f.is_file() and value in f.read_text("utf-8", "replace")})
    names = ", ".join(found[way])
    print(f"{way + ':':<13}the value is in {names or 'no file of the logs'}")
sys.exit(found != {"runtime_env": ["runtime_env_agent.log"], "argument": []})
PYTHON
RAY_USAGE_STATS_ENABLED=0 "$work/venv/bin/python" actors.py "$work/ray"
