"""Routes to malicious servers.

A caller gets the fallback's response in time, or the reason why there is none, and is not affected by a
shadow; the log has every request once, and the gateway stays within its memory limits.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from bench.hostility import Attempt
from tests.unit.serving.hostile_server import BEHAVIOURS, DAMAGED, KEY, PASSED_ON, HostileServer
from tests.unit.serving.served_endpoint import ServedEndpoint, backend, route, served
from tests.unit.serving.test_hostile_backends import address, models_of, without_ids

SECONDS = 4.0  # timeout of a response at this endpoint
SLACK = 1.0
DELAY = 0.05  # delay of the good backend, which a caller waits for anyway
DAMAGES = 60
ROUNDS = 30  # rounds of requests with and without a shadow, for the ratio
MAX_RATIO = 1.5  # ratio of the median seconds with a shadow to those without
MAX_GROWTH_MIB = 400  # of the gateway, with eight concurrent responses of maximum size
ENDLESS = "events-without-end"  # as a stream, a response that continues up to its limit


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Try every behavior as a live route, with and without a fallback, and as a shadow."""
    os.environ["THEIRS"] = KEY
    draw = random.Random(seed)
    damages = [f"{DAMAGED}{seed}-{number}" for number in range(DAMAGES)]
    names = [*BEHAVIOURS, *PASSED_ON, *damages]
    with HostileServer() as server:
        backends = [backend("good", words=["good"], delay=DELAY)]
        backends += [address(name, server.url) for name in names]
        with served(folder, backends, [route("live", "good")], seconds=SECONDS, shadow_queue=64) as endpoint:
            endpoint.config["models"] = models_of(names)
            endpoint.write_config(endpoint.config)
            endpoint.wait_for(lambda: len(endpoint.state()["routes"]) == 1 + 5 * len(names))
            ways = [(name, way, stream) for name in names for way in WAYS for stream in (False, True)]
            draw.shuffle(ways)
            with ThreadPoolExecutor(4) as pool:
                yield from pool.map(lambda way: _attempt(endpoint, *way), ways)
            yield from (_felt(endpoint, name) for name in BEHAVIOURS)
            yield _memory(endpoint)
            yield _log(endpoint, len(ways))


def _attempt(endpoint: ServedEndpoint, name: str, way: str, stream: bool) -> Attempt:
    began = time.monotonic()
    try:
        answer = endpoint.post(model=f"{way} {name}", stream=stream)
    except httpx.HTTPError as error:
        return Attempt(f"{way} {name}, {stream=}", f"no answer: {error!r}")
    seconds = time.monotonic() - began
    failure = WAYS[way](name, answer)
    if KEY in answer.text or "x-theirs" in answer.headers:
        failure = "what is theirs was passed on"
    if seconds > SECONDS + SLACK:
        failure = f"took {seconds:.1f} s"
    return Attempt(f"{way} {name}, {stream=}", failure)


def _saved(name: str, answer: httpx.Response) -> str:
    """Check that the fallback responded, or the backend itself if its response is valid."""
    if name in BEHAVIOURS and name != ENDLESS and '"good@1"' not in answer.text:
        return f"{answer.status_code}: {answer.text[:200]}"
    return "" if answer.status_code in (200, 400, 429) else f"{answer.status_code}: {answer.text[:200]}"


def _alone(name: str, answer: httpx.Response) -> str:
    expected = {200, 429, 400, 502, 504} if name not in BEHAVIOURS else {500, 502, 503, 504}
    expected |= {200} if name == ENDLESS else set()
    bad = answer.status_code not in expected or "internal_error" in answer.text
    return f"{answer.status_code}: {answer.text[:200]}" if bad else ""


def _copied(name: str, answer: httpx.Response) -> str:
    good = answer.status_code == 200 and "good" in answer.text and "mine" not in answer.text
    return "" if good else f"{answer.status_code}: {answer.text[:200]}"


WAYS = {"saved": _saved, "alone": _alone, "copied": _copied}


def _felt(endpoint: ServedEndpoint, name: str) -> Attempt:
    """Compare the content and duration of responses with and without this shadow, alternately."""
    seconds: dict[str, list[float]] = {"plain": [], f"copied {name}": []}
    bodies = set()
    for _ in range(ROUNDS):
        for model, taken in seconds.items():
            began = time.monotonic()
            bodies.add(str(without_ids(endpoint.post(model=model))))
            taken.append(time.monotonic() - began)
    plain, copied = map(statistics.median, seconds.values())
    if len(bodies) > 1:
        return Attempt(f"felt {name}", "another answer")
    slow = copied / plain > MAX_RATIO
    return Attempt(f"felt {name}", f"{copied / plain:.2f} times the seconds without it" if slow else "")


def _memory(endpoint: ServedEndpoint) -> Attempt:
    """Measure the maximum memory growth of the gateway while it receives responses of the maximum size."""
    assert endpoint.process
    process = psutil.Process(endpoint.process.pid)
    before, most, ended = process.memory_info().rss, 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(0.02):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    large = [name for name in BEHAVIOURS if "mb" in name or "without-end" in name or "lists" in name]
    with ThreadPoolExecutor(8) as pool:
        for stream in (False, True):
            list(pool.map(lambda name: _attempt(endpoint, name, "alone", stream), 3 * large))  # noqa: B023
    ended.set()
    thread.join()
    grown = (most - before) / 2**20
    print(f"  the gateway: {before / 2**20:.0f} MiB, at most {grown:.0f} MiB more")
    return Attempt("memory", f"{grown:.0f} MiB more" if grown > MAX_GROWTH_MIB else "")


def _log(endpoint: ServedEndpoint, asked: int) -> Attempt:
    """Check that every request is logged once, that there are no unexpected errors, and that the gateway
    still responds.
    """
    ids = Counter(line["request_id"] for line in endpoint.lines())
    own = sum(line["role"] != "shadow" for line in endpoint.lines())
    if set(ids.values()) != {1} or own < asked:
        return Attempt("the log", f"{own} lines of {asked} requests, some {max(ids.values())} times")
    if "Traceback" in endpoint.log_text():
        return Attempt("the log", endpoint.log_text()[-300:])
    return Attempt("goes on", "" if endpoint.post(model="plain").status_code == 200 else "no answer")
