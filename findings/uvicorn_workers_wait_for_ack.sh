#!/usr/bin/env bash
# uvicorn 0.54.0: with two workers, a second message to a WebSocket client waits for its next one.
#
# A server of live audio answers a piece of 20 ms with tokens, and a little later with sound. asyncio
# turns Nagle's algorithm off (TCP_NODELAY) for every connection, so one would expect both to leave at
# once, and so they do from one worker. With `--workers 2` uvicorn makes the listening socket itself,
# by `socket.socket(family=...)`, whose protocol number in Python is 0 and not IPPROTO_TCP, and so do
# connections accepted from it: asyncio takes them for something else than TCP and leaves the algorithm
# on. The second answer then waits until the client's system acknowledges the first, which it does with
# the client's next message. It is the same with any socket of `socket.create_server` that is given to
# asyncio. uvloop turns the algorithm off whatever the number is (`--loop uvloop`: 2.8 ms).
#
# Seen 2026-11-30, Linux x86-64, Python 3.11, websockets 17.4, 50 messages, one each 20 ms, answered at
# once and again 2 ms later; median delay of the second answer:
#   1 worker(s): 3.0 ms
#   2 worker(s): 21.0 ms
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uvicorn==0.54.0 websockets==17.4
cd "$work"
cat >app.py <<'PYTHON'
import asyncio


async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": b"tokens"})
        await asyncio.sleep(0.002)
        await send({"type": "websocket.send", "bytes": b"sound" * 100})
PYTHON
cat >client.py <<'PYTHON'
import asyncio
import statistics
import sys
import time

from websockets.asyncio.client import connect


async def talk(port):
    for _ in range(100):
        try:
            return await measured(port)
        except OSError:  # it does not listen yet
            await asyncio.sleep(0.1)
    sys.exit("no server")


async def measured(port):
    delays = []
    async with connect(f"ws://127.0.0.1:{port}") as socket:

        async def listen(sent):
            for begin in range(50):
                await socket.recv()
                await socket.recv()
                delays.append(time.perf_counter() - sent[begin])

        sent = []
        task = asyncio.create_task(listen(sent))
        for _ in range(51):
            sent.append(time.perf_counter())
            await socket.send(bytes(640))
            await asyncio.sleep(0.02)
        await task
    return statistics.median(delays) * 1000


print(f"{asyncio.run(talk(sys.argv[1])):.1f}")
PYTHON
free() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
for workers in 1 2; do
    port=$(free)
    "$work/venv/bin/uvicorn" app:app --port "$port" --workers "$workers" --lifespan off \
        --loop asyncio --log-level critical &
    server=$!
    delay=$("$work/venv/bin/python" client.py "$port")
    echo "$workers worker(s): $delay ms"
    declare "delay_$workers=$delay"
    kill $server
    wait $server 2>/dev/null || true
done
# shellcheck disable=SC2154
python3 -c "raise SystemExit(not ($delay_1 < 12 < 15 < $delay_2))"
