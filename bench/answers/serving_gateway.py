"""Cost of an endpoint's gateway, with a backend without a model: time, throughput, lines of its log.

    python bench/answers/serving_gateway.py         delay, throughput, lines at 500 requests a second
    python bench/answers/serving_gateway.py kill    kill -9 in traffic, ten times: responses without a line

The backend is `tests.unit.serving.stub_backend`: it responds after a fixed delay, with the given
concurrency. Requests are sent by a plain asyncio client in this process, alternately directly and through
the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.serving.gateway.backend_http import BackendClient, BackendConnectionError  # noqa: E402
from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, route, served  # noqa: E402

BODY = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "Where is my card? " * 8}]}
).encode()
DIRECT = json.dumps(
    {"model": "base", "messages": [{"role": "user", "content": "Where is my card? " * 8}]}
).encode()
T = TypeVar("T")
ROUNDS = 3


class Ask:
    """Sends one request, reads the whole response and returns its id. The connections belong to one event
    loop.
    """

    def __init__(self, client: BackendClient, body: bytes) -> None:
        self._client, self._body = client, body

    async def __call__(self) -> str:
        reply = await self._client.send("POST", "/v1/chat/completions", self._body)
        try:
            content = await reply.read_body()
        finally:
            reply.close()
        if reply.status != 200:
            raise BackendConnectionError(f"status {reply.status}: {content[:200]!r}")
        return str(json.loads(content)["id"])

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run a coroutine that sends requests in its own event loop."""

        async def alone() -> T:
            try:
                return await work
            finally:
                self._client.close()

        return asyncio.run(alone())


def clients(endpoint: ServedEndpoint, backend_id: str) -> tuple[Ask, Ask]:
    """Return a client of the backend itself, and one through the gateway."""
    spec = json.loads((endpoint.folder / "backends" / backend_id / "spec.json").read_text())
    direct = BackendClient(socket=spec["socket"])
    through = BackendClient(url=endpoint.address, key=KEY)
    return Ask(direct, DIRECT), Ask(through, BODY)


async def paced(ask: Ask, rate: float, seconds: float) -> tuple[list[float], list[str]]:
    """Send requests at a fixed rate, whether or not earlier ones have ended; return their durations in
    seconds, and the ids.
    """
    took: list[float] = []
    ids: list[str] = []

    async def timed() -> None:
        began = time.perf_counter()
        ids.append(await ask())
        took.append(time.perf_counter() - began)

    tasks, begin = [], time.perf_counter()
    for place in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + place / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(timed()))
    await asyncio.gather(*tasks)
    return took, ids


async def full(ask: Ask, streams: int, seconds: float) -> float:
    """Return the responses per second for this number of callers, each sending the next request at once."""
    done, end = 0, time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask()
            done += 1

    await asyncio.gather(*(caller() for _ in range(streams)))
    return done / seconds


def p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


def delay(folder: Path) -> None:
    """Print the milliseconds added by the gateway, at rates that the backend can sustain."""
    with served(
        folder, [backend("b", delay=0.02, max_streams=64)], [route("live", "b")], queue=1000
    ) as endpoint:
        direct, through = clients(endpoint, "b")
        for rate in (20, 100, 200):
            pairs = []
            for _ in range(ROUNDS):
                alone, _ = direct.run(paced(direct, rate, 4))
                routed, _ = through.run(paced(through, rate, 4))
                pairs.append((p95(routed) - p95(alone), statistics.median(routed) - statistics.median(alone)))
            worst = max(1000 * added for added, _ in pairs)
            middle = statistics.median(1000 * added for added, _ in pairs)
            median = statistics.median(1000 * added for _, added in pairs)
            print(
                f"{rate} requests a second: adds {middle:.2f} ms at the 95th percentile"
                f" (worst of {ROUNDS} rounds {worst:.2f}), {median:.2f} ms at the median"
            )


def throughput(folder: Path) -> None:
    """Print the throughput for a backend with 8 and 16 streams whose responses take 50 ms, with twice as many
    callers.
    """
    for streams in (8, 16):
        own = backend("b", delay=0.05, max_streams=streams)
        with served(folder / str(streams), [own], [route("live", "b")], queue=1000) as endpoint:
            direct, through = clients(endpoint, "b")
            shares = []
            for _ in range(ROUNDS):
                alone = direct.run(full(direct, streams, 4))
                routed = through.run(full(through, 2 * streams, 4))
                shares.append(routed / alone)
            print(
                f"{streams} streams of 50 ms: {routed:.0f} of {alone:.0f} answers a second,"
                f" {statistics.median(shares):.1%} (worst {min(shares):.1%})"
            )


def lines(folder: Path) -> None:
    """Check that every response has its log line, at 500 requests per second for ten seconds."""
    with served(
        folder, [backend("b", delay=0.01, max_streams=256)], [route("live", "b")], queue=5000
    ) as endpoint:
        _, through = clients(endpoint, "b")
        began = time.perf_counter()
        took, ids = through.run(paced(through, 500, 10))
        rate = len(ids) / (time.perf_counter() - began)
        logged = {line["request_id"] for line in endpoint.lines()}
        print(
            f"{len(ids)} answers at {rate:.0f} a second (p95 {1000 * p95(took):.0f} ms), {len(logged)} lines,"
            f" {len(set(ids) - logged)} answers without one"
        )


async def until_killed(ask: Ask, ids: list[str]) -> None:
    """Send requests from 16 callers until there is no response."""

    async def caller() -> None:
        while True:
            try:
                ids.append(await ask())
            except BackendConnectionError:
                return

    await asyncio.gather(*(caller() for _ in range(16)))


def kill(folder: Path) -> None:
    """Kill ten gateways in traffic, all with the same folder."""
    endpoint = ServedEndpoint(
        folder, [backend("b", delay=0.002, max_streams=64)], [route("live", "b")], queue=1000
    )
    had: list[str] = []
    for _ in range(10):
        endpoint.start()
        assert endpoint.process
        _, through = clients(endpoint, "b")

        async def traffic(through: Ask = through, pid: int = endpoint.process.pid) -> None:
            asyncio.get_running_loop().call_later(1.0, os.kill, pid, signal.SIGKILL)
            await until_killed(through, had)

        through.run(traffic())
        endpoint.process.wait()
    logged = {line["request_id"] for line in endpoint.lines()}
    print(f"Ten kills: {len(had)} answers were had, {len(set(had) - logged)} of them without a line")


PARTS: dict[str, Callable[[Path], None]] = {
    "delay": delay,
    "throughput": throughput,
    "lines": lines,
    "kill": kill,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=["delay", "throughput", "lines"])
    for part in parser.parse_args().parts:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder) / "endpoint")


if __name__ == "__main__":
    main()
