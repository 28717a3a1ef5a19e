"""The tokens of a key's day: held before a request goes out, charged as they are taken, given back else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.serving.gateway.api_keys import DAY_SECONDS, ApiKeys
from engine.serving.gateway.request_bodies import Refusal, TokenBound, compute_token_bound
from tests.unit.serving.served_endpoint import ServedEndpoint, backend, key_of, route, served

TAKEN = 12  # by an answer of the stub: 7 of the prompt and 5 words
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
PROMPT = compute_token_bound("chat", HELLO, 0).prompt


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    """A backend that answers after a while, with a shadow that gets a copy of everything."""
    backends = [backend("b", delay=0.2, pause=0.05), backend("s")]
    routes = [route("live", "b"), route("shadow", "s")]
    with served(tmp_path_factory.mktemp("e"), backends, routes) as endpoint:
        yield endpoint


@pytest.fixture
def quota(endpoint: ServedEndpoint, request: pytest.FixtureRequest) -> Callable[[int], str]:
    """Make a key of so many tokens a day, that nobody has used."""

    def make(tokens: int) -> str:
        endpoint.write_keys([key_of(request.node.name, tokens=tokens)])
        return request.node.name

    return make


def taken(endpoint: ServedEndpoint, key: str) -> int:
    return sum(line["tokens"] for line in endpoint.lines() if line["key_id"] == f"key-{key}")


def last_line(endpoint: ServedEndpoint, key: str) -> Any:
    return [line for line in endpoint.lines() if line["key_id"] == f"key-{key}"][-1]


def test_requests_at_once_take_no_more_than_there_is(
    endpoint: ServedEndpoint, quota: Callable[[int], str]
) -> None:
    key = quota(100)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: endpoint.post(key=key), range(20)))
    good = [answer for answer in answers if answer.status_code == 200]
    assert 1 <= len(good) <= 100 // TAKEN
    assert {answer.status_code for answer in answers} == {200, 429}
    assert taken(endpoint, key) == TAKEN * len(good) <= 100


def test_requests_of_a_minute_are_counted_as_they_come(endpoint: ServedEndpoint) -> None:
    endpoint.write_keys([key_of("often", requests=5)])
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: endpoint.post(key="often").status_code, range(20)))
    assert sorted(statuses) == [200] * 5 + [429] * 15


def test_an_answer_without_a_length_gets_what_is_left_and_is_told(
    endpoint: ServedEndpoint, quota: Callable[[int], str]
) -> None:
    key = quota(PROMPT + 20)
    answer = endpoint.post(key=key)
    assert (answer.status_code, answer.headers["x-tunebench-max-tokens"]) == (200, "20")
    assert endpoint.seen("b")["asked"][-1]["max_tokens"] == 20
    key = quota(10_000)
    roomy = endpoint.post(key=key)
    assert "x-tunebench-max-tokens" not in roomy.headers
    assert "max_tokens" not in endpoint.seen("b")["asked"][-1]


def test_a_length_that_does_not_fit_is_refused_with_the_one_that_does(
    endpoint: ServedEndpoint, quota: Callable[[int], str]
) -> None:
    key = quota(PROMPT + 20)
    refused = endpoint.post(key=key, max_tokens=15, n=2)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "tokens_per_day")
    assert f"{PROMPT + 20:,} of its {PROMPT + 20:,} tokens" in error["message"]
    assert "2 × 15" in error["message"]
    assert "max_tokens of at most 10" in error["message"]
    assert endpoint.post(key=key, max_tokens=10, n=2).status_code == 200
    hopeless = endpoint.post(key=key, messages=[{"role": "user", "content": "x" * 500}])
    assert "more than the quota of a whole day" in hopeless.json()["error"]["message"]
    assert "retry-after" not in hopeless.headers


def test_decisions_take_what_their_server_counts(
    endpoint: ServedEndpoint, quota: Callable[[int], str]
) -> None:
    key = quota(1_000)
    body = {"model": "m", "state": "x", "questions": {"q": {"type": "noul"}}}
    assert endpoint.post("systemone", key=key, **body).status_code == 200
    assert last_line(endpoint, key)["tokens"] == TAKEN
    many = {**body, "questions": {str(n): {"type": "noul"} for n in range(20)}}
    assert endpoint.post("systemone", key=key, **many).json()["error"]["code"] == "tokens_per_day"


def test_copies_are_charged_to_nobody(endpoint: ServedEndpoint, quota: Callable[[int], str]) -> None:
    key = quota(2_000)
    asked = len(endpoint.seen("s")["asked"])
    assert endpoint.post(key=key).status_code == 200
    endpoint.wait_for(lambda: len(endpoint.seen("s")["asked"]) > asked)
    endpoint.wait_for(lambda: _used(endpoint, key) == TAKEN)


def test_a_caller_who_goes_away_pays_for_what_was_read_and_written(tmp_path: Path) -> None:
    slow = backend("b", pause=0.2, words=[" word"] * 400)
    with served(tmp_path, [slow], [route("live", "b")]) as endpoint:
        endpoint.write_keys([key_of("day", tokens=250)])
        headers = {"Authorization": "Bearer day"}
        body = {**HELLO, "stream": True, "max_tokens": 60}
        address = f"{endpoint.address}/v1/chat/completions"
        with httpx.stream("POST", address, json=body, headers=headers) as answer:
            events = answer.iter_lines()
            assert next(events)
            waiting = endpoint.post(key="day", max_tokens=60)
        assert (waiting.status_code, waiting.json()["error"]["code"]) == (429, "tokens_per_day")
        assert "held for its requests under way" in waiting.json()["error"]["message"]
        assert int(waiting.headers["retry-after"]) <= 3, "it need not wait until tomorrow"
        endpoint.wait_for(lambda: any(line["status"] == 499 for line in endpoint.lines()))
        prompt = -(-len(json.dumps(HELLO["messages"], separators=(",", ":"))) // 4)
        assert prompt < taken(endpoint, "day") < 120
        assert endpoint.post(key="day", max_tokens=60).status_code == 200


def _used(endpoint: ServedEndpoint, key: str) -> int:
    return next((use["tokens"] for use in endpoint.state()["keys"] if use["key_id"] == f"key-{key}"), 0)


@pytest.mark.parametrize("does", [{"status": 500}, {"status": 400}, {"broken": "before"}])
def test_a_request_that_fails_gives_back(tmp_path: Path, does: dict[str, Any]) -> None:
    with served(tmp_path, [backend("b", **does)], [route("live", "b")]) as endpoint:
        endpoint.write_keys([key_of("day", tokens=PROMPT + 30)])
        statuses = [endpoint.post(key="day", max_tokens=30).status_code for _ in range(3)]
        assert 429 not in statuses
        assert taken(endpoint, "day") == 0


def test_a_fallback_is_paid_once(tmp_path: Path) -> None:
    backends = [backend("b", status=500), backend("f")]
    with served(tmp_path, backends, [route("live", "b"), route("fallback", "f")]) as endpoint:
        endpoint.write_keys([key_of("day", tokens=PROMPT + 2 * TAKEN + 5)])
        assert [endpoint.post(key="day", max_tokens=5).status_code for _ in range(3)] == [200] * 3
        assert taken(endpoint, "day") == 3 * TAKEN


def test_a_request_over_midnight_is_paid_on_the_day_that_it_ends() -> None:
    now = 20_000 * DAY_SECONDS - 5.0
    keys = ApiKeys(Path("none"), clock=lambda: now)
    key: Any = {"key_id": "k", "tokens_per_day": 100, "requests_per_minute": None}
    held = keys.reserve_tokens(key, TokenBound(10, 1, 80), supports_length=True, sets_length=True)
    now += 10
    assert keys.count_free_tokens(key) == 10, "what is under way holds its tokens of the new day too"
    with pytest.raises(Refusal, match="held for its requests"):
        keys.reserve_tokens(key, TokenBound(10, 1, 80), supports_length=True, sets_length=True)
    keys.settle_tokens(key, held.total, 40)
    assert (keys.count_free_tokens(key), keys.list_usage()[0].day, keys.list_usage()[0].tokens) == (
        60,
        "2024-10-04",
        40,
    )


@pytest.mark.parametrize(("prompt", "answers"), [(100, 1), (98, 3)])
def test_where_the_prompt_takes_all_that_is_left_no_answer_of_no_tokens_is_asked(
    prompt: int, answers: int
) -> None:
    keys = ApiKeys(Path("none"), clock=lambda: 20_000 * DAY_SECONDS)
    key: Any = {"key_id": "k", "tokens_per_day": 100, "requests_per_minute": None}
    with pytest.raises(Refusal) as refused:
        keys.reserve_tokens(key, TokenBound(prompt, answers, 50), supports_length=True, sets_length=False)
    assert (refused.value.status, keys.count_free_tokens(key)) == (429, 100)
    room = keys.reserve_tokens(key, TokenBound(97, 3, 50), supports_length=True, sets_length=False)
    assert (room.length, keys.count_free_tokens(key)) == (1, 0)


def test_a_length_is_not_named_where_the_model_obeys_none() -> None:
    keys = ApiKeys(Path("none"), clock=lambda: 20_000 * DAY_SECONDS)
    key: Any = {"key_id": "k", "tokens_per_day": 100, "requests_per_minute": None}
    with pytest.raises(Refusal) as refused:
        keys.reserve_tokens(key, TokenBound(10, 1, 200), supports_length=False, sets_length=False)
    assert "max_tokens" not in refused.value.message
    assert refused.value.retry_after is None, "it never fits"
    assert keys.count_free_tokens(key) == 100


@pytest.mark.parametrize(
    ("kind", "body", "total"),
    [
        ("chat", {"messages": "abcd"}, 6 + 32 + 50),
        ("chat", {"messages": "abcd", "n": 3}, 6 + 32 + 150),
        ("chat", {"messages": "abcd", "tools": "ab", "temperature": 0.123456}, 6 + 4 + 32 + 50),
        ("chat", {"messages": "x" * 5000}, 1000 + 50),
        ("completion", {"prompt": ["a", "b"], "n": 2}, 9 + 64 + 200),
        ("completion", {"prompt": [[1], [2], [3]]}, 13 + 96 + 150),
        ("completion", {"prompt": [11, 22]}, 7 + 32 + 50),
        ("completion", {"prompt": "é", "best_of": 4}, 4 + 32 + 200),
        ("labels", {"messages": "abcd"}, 6 + 32),
        ("decision", {"state": "abcd", "questions": {"a": 1, "b": 2}}, 2 * (6 + 96) + 13),
        ("decision", {"state": "x" * 5000, "questions": {"a": 1, "b": 2}}, 2000),
    ],
)
def test_the_most_that_a_request_can_take(kind: Any, body: dict[str, Any], total: int) -> None:
    assert compute_token_bound(kind, body, 50, context=1000).total == total
