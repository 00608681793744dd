#!/usr/bin/python3
"""delay.py MILLISECONDS LISTEN=TARGET...: TCP connections to port LISTEN on loopback go on to port TARGET, each byte that much later.

A network between machines that are far apart, for kernels that cannot delay packets themselves. Prints "ready"; ends with its input.
"""
import asyncio
import socket
import sys
import time


async def carry(reader, writer, delay):
    queue = asyncio.Queue()

    async def take():
        while True:
            data = await reader.read(65536)
            await queue.put((time.monotonic() + delay, data))
            if not data:
                return

    task = asyncio.create_task(take())
    try:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - time.monotonic()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        task.cancel()
        writer.close()


async def serve(listen, target, delay):
    async def accepted(reader, writer):
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        for w in (writer, there_writer):
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(carry(reader, there_writer, delay), carry(there_reader, writer, delay), return_exceptions=True)

    return await asyncio.start_server(accepted, "127.0.0.1", listen)


async def main():
    delay = float(sys.argv[1]) / 1000
    servers = [await serve(*map(int, pair.split("=")), delay) for pair in sys.argv[2:]]
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


asyncio.run(main())
