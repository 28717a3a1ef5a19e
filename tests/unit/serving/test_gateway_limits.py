"""Quotas, queues, keys that are revoked and callers that go away, time limits, the log through a kill."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from engine.serving.gateway.api_keys import ApiKeys
from engine.serving.gateway.request_bodies import Refusal, TokenBound
from store.core.processes import SteadyClock
from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, key_of, route, served

HEADERS = {"Authorization": f"Bearer {KEY}"}
STREAMED = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    """One place, one that waits; words every 50 ms for up to 20 s, cut after 3."""
    slow = backend("b", pause=0.05, delay=0.4, words=[" word"] * 400, max_streams=1, nats=-0.5)
    with served(tmp_path_factory.mktemp("e"), [slow], [route("live", "b")], queue=1, seconds=3.0) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def anew(endpoint: ServedEndpoint) -> None:
    endpoint.write_keys([key_of()])


def test_more_than_may_wait_are_refused_with_a_time(endpoint: ServedEndpoint) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: endpoint.post(), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "queue_full"
    assert int(refused.headers["retry-after"]) >= 1


def test_quotas_of_a_key(endpoint: ServedEndpoint) -> None:
    endpoint.write_keys([key_of("minute", requests=1), key_of("day", tokens=420)])
    assert endpoint.post(key="minute").status_code == 200
    refused = endpoint.post(key="minute")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "requests_per_minute")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert endpoint.post(key="day").status_code == 200
    assert endpoint.post(key="day").json()["error"]["code"] == "tokens_per_day"
    assert endpoint.post().status_code == 401  # the key that was there before


def test_a_clock_that_is_set_back_neither_locks_a_key_nor_gives_its_quota_again(tmp_path: Path) -> None:
    wall, ran = [1_800_000_000.0], [0.0]
    given = {"keys": [key_of("minute", requests=1), key_of("day", tokens=5)]}
    (tmp_path / "keys.json").write_text(json.dumps(given))
    keys = ApiKeys(tmp_path / "keys.json", clock=SteadyClock(lambda: wall[0], lambda: ran[0]))
    minute, day = (
        keys.authenticate({"headers": [(b"authorization", b"Bearer " + name)]})
        for name in (b"minute", b"day")
    )
    keys.count_request(minute)
    keys.count_request(day)
    keys.settle_tokens(day, 0, 5)
    wall[0] -= 86_400
    with pytest.raises(Refusal, match="tokens of today"):
        keys.reserve_tokens(day, TokenBound(1, 1, 1), supports_length=True, sets_length=True)
    with pytest.raises(Refusal) as refused:
        keys.count_request(minute)
    assert refused.value.retry_after
    assert refused.value.retry_after <= 61
    ran[0] += 61
    keys.count_request(minute)


def test_a_key_revoked_in_mid_stream_ends_it(endpoint: ServedEndpoint) -> None:
    with httpx.stream(
        "POST", f"{endpoint.address}/v1/chat/completions", json=STREAMED, headers=HEADERS
    ) as answer:
        events = answer.iter_lines()
        assert next(events).startswith("data: ")
        began = time.monotonic()
        endpoint.write_keys([])
        last = [line for line in events if line][-1]
    assert time.monotonic() - began < 2.5
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "invalid_api_key"
    line = endpoint.lines()[-1]
    assert (line["status"], line["error"]) == (401, "invalid_api_key")
    assert line["output"].startswith(" word")


def test_a_caller_who_goes_away_frees_the_place_at_once(endpoint: ServedEndpoint) -> None:
    closed = endpoint.seen("b")["closed"]
    with httpx.stream(
        "POST", f"{endpoint.address}/v1/chat/completions", json=STREAMED, headers=HEADERS
    ) as answer:
        assert next(answer.iter_lines())
    began = time.monotonic()
    assert endpoint.post().status_code == 200
    assert time.monotonic() - began < 2
    endpoint.wait_for(lambda: endpoint.seen("b")["closed"] == closed + 1)
    gone = next(line for line in reversed(endpoint.lines()) if line["status"] == 499)
    assert gone["error"] == "client_gone"


def test_an_answer_past_its_time_ends(endpoint: ServedEndpoint) -> None:
    answer = httpx.post(f"{endpoint.address}/v1/chat/completions", json=STREAMED, headers=HEADERS)
    assert json.loads(answer.text.strip().split("data: ")[-1])["error"]["code"] == "timeout"
    line = endpoint.lines()[-1]
    assert (line["status"], line["mean_logprob"]) == (504, -0.5), "of what had come"


def test_a_kill_costs_a_quota_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    endpoint = ServedEndpoint(tmp_path_factory.mktemp("q"), [backend("b")], [route("live", "b")])
    endpoint.write_keys([key_of(), key_of("day", tokens=120)])
    endpoint.start()
    assert endpoint.process
    try:
        written_at = endpoint.state()["at"]
        assert [endpoint.post(key=key).status_code for key in ("day", KEY, "day")] == [200, 200, 200]
        endpoint.wait_for(lambda: endpoint.state()["at"] > written_at)
        assert {use["key_id"]: use["tokens"] for use in endpoint.state()["keys"]} == {
            "key-day": 24, f"key-{KEY}": 12,
        }  # fmt: skip
        while (endpoint.state()["at"] + 1) < time.time():
            time.sleep(0.05)  # a state has just been written: the next one is over a second away
        assert [endpoint.post(key="day").status_code for _ in range(2)] == [200, 200]
        endpoint.process.kill()
        endpoint.process.wait()
        before = {use["key_id"]: use for use in endpoint.state()["keys"]}
        endpoint.start(keep_state=True)
        after = {use["key_id"]: use for use in endpoint.state()["keys"]}
        assert after[f"key-{KEY}"] == before[f"key-{KEY}"]
        assert (after["key-day"]["tokens"], after["key-day"]["requests"]) == (48, 4)
        assert endpoint.post(key="day").status_code == 200
        assert endpoint.post(key="day").json()["error"]["code"] == "tokens_per_day"
    finally:
        endpoint.stop()


def test_a_kill_loses_no_answer_that_was_had(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("k"), [backend("b", delay=0.005)], [route("live", "b")]) as endpoint:
        had: list[str] = []

        def ask() -> None:
            with httpx.Client(headers=HEADERS) as http:
                while True:
                    try:
                        body = {"model": "m", "messages": [], "stream": len(had) % 2 == 0}
                        text = http.post(f"{endpoint.address}/v1/chat/completions", json=body).text
                    except httpx.HTTPError:
                        return
                    had.append(json.loads(text.removeprefix("data: ").split("\n\n")[0])["id"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        endpoint.wait_for(lambda: len(had) > 20)
        assert endpoint.process
        endpoint.process.kill()
        for thread in threads:
            thread.join()
        assert set(had) <= {line["request_id"] for line in endpoint.lines()}
