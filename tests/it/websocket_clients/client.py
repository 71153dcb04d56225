"""What a client of PyPI can do with a WebSocket. Arguments: URL, token. Prints what it saw as JSON."""

import asyncio
import json
import sys

import websockets
from websockets.asyncio.client import connect

URL, TOKEN = sys.argv[1:]


def opened(token=TOKEN, **options):
    headers = {"Authorization": f"Bearer {token}"}
    return connect(URL, additional_headers=headers, subprotocols=["chat"], proxy=None, max_size=1 << 24, **options)


async def main():
    said = {}
    for name, options in (("plain", {"compression": None}), ("compressed", {})):
        async with opened(**options) as socket:
            echoed = 0
            for size in (0, 1, 125, 126, 127, 65535, 65536, 1 << 20):
                for message in ("é" * (size // 2), bytes([7]) * size):
                    await socket.send(message)
                    echoed += await socket.recv() == message
            await socket.send(["a", "b", "c"])
            joined = await socket.recv()
            await socket.send("in pieces")
            pieces = [piece async for piece in socket.recv_streaming()]
            latency = await (await socket.ping("from the client"))
            await socket.send("ping me")
            ping = await socket.recv()
            said[name] = {"protocol": socket.subprotocol, "echoed": echoed, "joined": joined, "pieces": "".join(pieces),
                          "pong": latency >= 0, "ping": ping}
    async with opened() as socket:
        await socket.send("close 4002 good bye")
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            said["closed_by_server"] = [closed.rcvd.code, closed.rcvd.reason]
    try:
        async with opened("nothing"):
            pass
    except websockets.InvalidStatus as refused:
        said["refused"] = [refused.response.status_code, refused.response.headers["content-type"]]
    print(json.dumps(said))


asyncio.run(main())
