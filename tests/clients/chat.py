"""Answers every message of a WebSocket, at the port that is its argument."""

import asyncio
import sys

import websockets


async def answer(socket):
    async for message in socket:
        await socket.send("you said " + message)


async def main():
    async with websockets.serve(answer, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Future()


asyncio.run(main())
