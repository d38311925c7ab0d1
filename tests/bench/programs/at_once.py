"""at_once.py floor|plain PROXY_PORT NAME PORT N: what at_once.js does, with asyncio."""

import asyncio
import sys
import time

how, proxy, name, port, count = sys.argv[1:]


async def connect():
    writer = None
    try:
        if how == "floor":
            reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy))
            writer.write(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if head[9:12] != b"200":
                return "refused"
        else:
            reader, writer = await asyncio.open_connection(name, int(port))
        return None if len(await reader.readexactly(1)) == 1 else "closed"
    except (OSError, EOFError) as error:
        return str(error)
    finally:
        if writer is not None:
            writer.transport.abort()


class Ticker:
    def __init__(self):
        self.last, self.held = time.perf_counter(), 0.0

    def look(self):
        now = time.perf_counter()
        self.held, self.last = max(self.held, now - self.last - 0.001), now

    async def run(self):
        while True:
            await asyncio.sleep(0.001)
            self.look()


async def main():
    await connect()
    ticker = Ticker()
    task = asyncio.ensure_future(ticker.run())
    begin = time.perf_counter()
    results = await asyncio.gather(*(connect() for _ in range(int(count))))
    ticker.look()
    task.cancel()
    errors = list(filter(None, results))
    print("".join(f"{error}\n" for error in errors[:1]), end="", file=sys.stderr)
    print(f"total_ms={(time.perf_counter() - begin) * 1e3:.2f}\nheld_ms={ticker.held * 1e3:.2f}\nerrors={len(errors)}")


asyncio.run(main())
