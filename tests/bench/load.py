"""A load of chat requests on a gateway; prints p50 and p99 in milliseconds, and requests a second.

python -m tests.bench.load URL KEY REQUESTS CHUNKS PAUSE CONNECTIONS    (CHUNKS 0: not streamed)
"""

import asyncio
import sys
import time

import aiohttp
import orjson

QUESTION = "What is the capital of France, and why is it not Lyon? " * 4


async def drive(
    url: str, key: str, requests: int, chunks: int, pause: float, connections: int
) -> list[float]:
    """Seconds of each request, from its start to its last byte."""
    body = {"model": "policy", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0.7}
    if chunks:
        body |= {"stream": True, "max_tokens": chunks, "seed": round(pause * 1000)}
    data, left, seconds = orjson.dumps(body), iter(range(requests)), []
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def one_connection(session: aiohttp.ClientSession) -> None:
        for _ in left:
            start = time.perf_counter()
            async with session.post(url + "/v1/chat/completions", data=data, headers=headers) as answer:
                reply = await answer.read()
                assert answer.status == 200, reply
            seconds.append(time.perf_counter() - start)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        await asyncio.gather(*(one_connection(session) for _ in range(connections)))
    return sorted(seconds)


def main() -> None:
    url, key, requests, chunks, pause, connections = sys.argv[1:]
    start = time.perf_counter()
    seconds = asyncio.run(drive(url, key, int(requests), int(chunks), float(pause), int(connections)))
    rate = len(seconds) / (time.perf_counter() - start)
    print(1000 * seconds[len(seconds) // 2], 1000 * seconds[int(0.99 * len(seconds))], rate)


if __name__ == "__main__":
    main()
