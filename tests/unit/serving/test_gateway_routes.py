"""Shares that stick, shadows, fallbacks, another config, a backend that dies, an end in order."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, route, served

HEADERS = {"Authorization": f"Bearer {KEY}"}
ONE_WORD = ["ok"]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    backends = [
        backend("live"), backend("new", fields=["max_tokens", "stream"], words=["new"]),
        backend("slow", delay=0.3, words=["shadow"], max_streams=1), backend("spare", words=["spare"]),
        backend("bad", broken="before"), backend("torn", broken="after"),
        backend("never", fail="No such model."), backend("weak", fields=["stream"]),
    ]  # fmt: skip
    with served(tmp_path_factory.mktemp("e"), backends, [route("live", "live")], shadow_queue=2) as endpoint:
        models = {
            "split": [route("live", "live"), route("candidate", "new", 0.3)],
            "shadowed": [route("live", "live"), route("shadow", "slow")],
            "saved": [route("live", "bad"), route("fallback", "spare")],
            "torn": [route("live", "torn"), route("fallback", "spare")],
            "absent": [route("live", "never"), route("fallback", "spare")],
            "lost": [route("live", "never")],
            "picky": [route("live", "bad"), route("fallback", "weak")],
        }
        endpoint.config["models"] = [{"name": name, "routes": routes} for name, routes in models.items()]
        endpoint.write_config(endpoint.config)
        endpoint.wait_for(lambda: len(endpoint.state()["routes"]) == 13)
        yield endpoint


def test_a_share_sticks_to_whom_it_is_of(endpoint: ServedEndpoint) -> None:
    versions: dict[str, set[str]] = {}
    for user in [f"user {n}" for n in range(60)] * 2:
        versions.setdefault(user, set()).add(endpoint.post(model="split", user=user).json()["model"])
    assert all(len(own) == 1 for own in versions.values())
    counts = Counter(version for own in versions.values() for version in own)
    assert 6 <= counts["new@1"] <= 32  # of 60 at 0.3: 18, give or take four standard deviations
    assert {line["role"] for line in endpoint.lines() if line["version"] == "new@1"} == {"candidate"}
    assert "user" not in endpoint.seen("new")["asked"][0]


def test_a_field_is_obeyed_by_all_who_may_answer_or_refused(endpoint: ServedEndpoint) -> None:
    refused = endpoint.post(model="split", temperature=0.5, user="user 1")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")


def test_a_shadow_slows_nobody_and_says_what_it_dropped(endpoint: ServedEndpoint) -> None:
    answers = [endpoint.post(model="shadowed") for _ in range(12)]
    assert {answer.json()["model"] for answer in answers} == {"live@1"}
    assert max(answer.elapsed.total_seconds() for answer in answers) < 0.3

    def counted() -> bool:
        own = next(entry for entry in endpoint.state()["routes"] if entry["role"] == "shadow")
        return bool(own["dropped"] > 0 and own["requests"] + own["dropped"] == 12)

    endpoint.wait_for(counted)
    copies = [line for line in endpoint.lines() if line["role"] == "shadow"]
    assert {copy["output"] for copy in copies} == {"shadow"}


def test_the_fallback_answers_before_the_first_byte_and_not_after(endpoint: ServedEndpoint) -> None:
    assert endpoint.post(model="saved").json()["model"] == "spare@1"
    assert endpoint.lines()[-1]["role"] == "fallback"
    assert "spare" in endpoint.post(model="saved", stream=True).text
    assert endpoint.post(model="absent").json()["model"] == "spare@1"
    torn = endpoint.post(model="torn", stream=True).text.strip().split("data: ")
    assert json.loads(torn[1])["choices"][0]["delta"]["content"] == "This"
    assert json.loads(torn[-1])["error"]["code"] == "backend_broken"
    assert endpoint.lines()[-1]["status"] == 502


def test_a_fallback_that_would_ignore_something_is_not_asked(endpoint: ServedEndpoint) -> None:
    assert endpoint.post(model="picky").json()["model"] == "weak@1"
    assert endpoint.post(model="picky", temperature=1).status_code == 502


def test_what_does_not_start_says_why(endpoint: ServedEndpoint) -> None:
    refused = endpoint.post(model="lost")
    assert refused.status_code == 503
    assert "No such model. Choose another." in refused.json()["error"]["message"]
    ready = httpx.get(f"{endpoint.address}/ready")
    assert ready.status_code == 503
    assert set(ready.json()["waiting_for"]) == {"lost"}


def test_a_new_version_comes_up_beside_the_old_one_or_not_at_all(tmp_path: Path) -> None:
    with served(tmp_path / "e", [backend("one")], [route("live", "one")], drain_seconds=5.0) as endpoint:
        asked: list[int] = []
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                asked.append(endpoint.post().status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        change(endpoint, "broken", fail="It is gone.")
        endpoint.wait_for(lambda: (endpoint.state()["error"] or {}).get("message") == "It is gone.")
        assert endpoint.post().json()["model"] == "one@1"
        change(endpoint, "two", pause=0.2)
        endpoint.wait_for(lambda: endpoint.post().json()["model"] == "two@1")
        ended.set()
        thread.join()
        assert set(asked) == {200}
        with httpx.stream(
            "POST", f"{endpoint.address}/v1/chat/completions", headers=HEADERS,
            json={"model": "m", "messages": [], "stream": True},
        ) as answer:  # fmt: skip
            events = answer.iter_lines()
            next(events)
            assert endpoint.process
            endpoint.process.terminate()
            endpoint.wait_for(lambda: endpoint.state()["phase"] == "draining")
            refused = endpoint.post()
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert [line for line in events if line][-1] == "data: [DONE]"
        assert endpoint.process.wait(10) == 0
        assert {entry["phase"] for entry in endpoint.state()["backends"]} == {"stopped"}


def change(endpoint: ServedEndpoint, name: str, **does: object) -> None:
    """Another backend in place of the live one."""
    endpoint.config["backends"] = [backend(name, **does)]
    endpoint.config["models"] = [{"name": "m", "routes": [route("live", name)]}]
    endpoint.write_config(endpoint.config)
