"""Says things over a WebSocket, the URL first, and prints what comes back."""

import asyncio
import sys

import websockets


async def main():
    async with websockets.connect(sys.argv[1], open_timeout=5) as socket:
        for message in sys.argv[2:]:
            await socket.send(message)
            print(await socket.recv())


asyncio.run(main())
