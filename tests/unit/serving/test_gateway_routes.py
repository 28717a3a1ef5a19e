"""Shares that stick, shadows, fallbacks, another config, a backend that dies, an end in order."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from engine.serving.gateway import shadow_traffic
from engine.serving.gateway.backend_processes import Backend
from engine.serving.gateway.call import Attempt, Call
from engine.serving.gateway.gateway import Gateway
from engine.serving.gateway.routing import ModelRoutes, Route, RouteCounts
from engine.serving.protocol.answers import LogprobTally
from store.core.address_policy import PUBLIC
from store.core.documents import parse_document
from store.serving.schemas import Capabilities, ServedModel
from tests.unit.serving.served_endpoint import KEY, ServedEndpoint, backend, key_of, route, served
from tests.unit.serving.stub_backend import Stub
from tests.unit.store_samples import row_of

HEADERS = {"Authorization": f"Bearer {KEY}"}
ONE_WORD = ["ok"]
SHADOW_SECONDS = 0.3  # of its backend, for each answer


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    backends = [
        backend("live"), backend("new", fields=["max_tokens", "stream"], words=["new"]),
        backend("slow", delay=SHADOW_SECONDS, words=["shadow"], max_streams=1),
        backend("spare", words=["spare"]),
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
    assert {line["dealt"] for line in endpoint.lines() if line["version"] == "new@1"} == {"new@1"}
    assert set(Counter(line["dealt_to"] for line in endpoint.lines()).values()) == {2}


def test_a_field_is_obeyed_by_all_who_may_answer_or_refused(endpoint: ServedEndpoint) -> None:
    refused = endpoint.post(model="split", temperature=0.5, user="user 1")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")


def test_a_shadow_slows_nobody_and_says_what_it_dropped(endpoint: ServedEndpoint) -> None:
    answers = [endpoint.post(model="shadowed") for _ in range(12)]
    assert {answer.json()["model"] for answer in answers} == {"live@1"}
    # the shadow takes longer than this for each; half of the answers, for a busy machine halts some
    assert statistics.median(answer.elapsed.total_seconds() for answer in answers) < SHADOW_SECONDS

    def counted() -> bool:
        own = next(entry for entry in endpoint.state()["routes"] if entry["role"] == "shadow")
        return bool(own["dropped"] > 0 and own["requests"] + own["dropped"] == 12)

    endpoint.wait_for(counted)
    copies = [line for line in endpoint.lines() if line["role"] == "shadow"]
    assert {copy["output"] for copy in copies} == {"shadow"}
    assert {copy["copy_of"] for copy in copies} <= {answer.json()["id"] for answer in answers}
    assert {line["copy_of"] for line in endpoint.lines() if line["role"] == "live"} == {None}
    copied = {copy["copy_of"] for copy in copies}
    of_key = {line["dealt_to"] for line in endpoint.lines() if line["request_id"] in copied}
    assert {copy["dealt_to"] for copy in copies} == of_key  # nobody names a `user`: the key
    assert len(of_key) == 1
    assert None not in of_key


def test_the_fallback_answers_before_the_first_byte_and_not_after(endpoint: ServedEndpoint) -> None:
    assert endpoint.post(model="saved").json()["model"] == "spare@1"
    assert endpoint.lines()[-1]["role"] == "fallback"
    assert "spare" in endpoint.post(model="saved", stream=True).text
    assert endpoint.post(model="absent").json()["model"] == "spare@1"
    assert endpoint.lines()[-1]["dealt"] == "never@1"  # whichever answered
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


def test_whose_turn_it_is_is_no_first_token(tmp_path: Path) -> None:
    backends = [backend("late", words=["", "late"], pause=0.3), backend("silent", words=[""])]
    with served(tmp_path / "e", backends, [route("live", "late")]) as endpoint:
        assert "late" in endpoint.post(stream=True).text
        assert endpoint.lines()[-1]["first_token_seconds"] >= 0.3
        endpoint.config["models"] = [{"name": "m", "routes": [route("live", "silent")]}]
        endpoint.write_config(endpoint.config)
        endpoint.wait_for(lambda: "silent@1" in endpoint.post(stream=True).text)
        assert endpoint.lines()[-1]["first_token_seconds"] is None


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


def test_what_failed_and_is_tried_again_keeps_its_socket(tmp_path: Path) -> None:
    with served(
        tmp_path / "e", [backend("b", fail="No memory.", once=True)], [route("live", "b")]
    ) as endpoint:
        assert endpoint.post().status_code == 503
        endpoint.config["asked_at"] = 1.0
        endpoint.write_config(endpoint.config)
        endpoint.wait_for(lambda: endpoint.state()["phase"] == "ready")
        time.sleep(0.2)  # for the one of before to be let go
        assert endpoint.post().status_code == 200
        assert len(endpoint.seen("b")["asked"]) == 1  # over a connection of its own


def test_a_config_that_is_refused_keeps_what_was_tried_again(tmp_path: Path) -> None:
    own = [backend("well"), backend("b", fail="No memory.", once=True)]
    routes = [route("live", "well"), route("fallback", "b")]
    with served(tmp_path / "e", own, routes) as endpoint:
        endpoint.config["backends"] = [*own, backend("never", fail="It is gone.")]
        endpoint.write_config(endpoint.config)
        endpoint.wait_for(lambda: (endpoint.state()["error"] or {}).get("message") == "It is gone.")
        assert [entry["phase"] for entry in endpoint.state()["backends"]] == ["ready", "ready"]
        assert endpoint.seen("b")["asked"] == []


def test_copies_cost_no_quota_and_an_odd_answer_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ServedEndpoint(tmp_path, [], [])

    async def played() -> Gateway:
        gateway = Gateway(tmp_path)
        gateway.shadows.start()
        monkeypatch.setattr(shadow_traffic, "Attempt", OddAttempt)
        own = Backend(backend("b"), tmp_path, "", PUBLIC, 8, ())
        stub = Stub({"model": "{}", "names": [], "adapters": []})
        own.phase, own.capabilities = "ready", parse_document(Capabilities, stub.capabilities)
        document = ServedModel(name="m", routes=[route("live", "b"), route("shadow", "b")])
        model = ModelRoutes(document, {"b": own})
        for _ in range(shadow_traffic.MAX_CONCURRENT_COPIES + 1):
            call = Call("e1", gateway.ids.create("chat"), "chat")
            call.key, call.body = key_of(), {"model": "m"}
            gateway.shadows.enqueue_copies(call, model)
        await asyncio.sleep(0.1)
        await gateway.shadows.stop()
        return gateway

    gateway = asyncio.run(played())
    assert gateway.request_log.lines == shadow_traffic.MAX_CONCURRENT_COPIES + 1
    assert gateway.keys.list_usage() == []


class OddAttempt(Attempt):
    """As many that break in an unforeseen way as there are workers, and one that is answered."""

    asked = 0

    async def send_request(self) -> None:
        OddAttempt.asked += 1
        if OddAttempt.asked <= shadow_traffic.MAX_CONCURRENT_COPIES:
            raise AttributeError("odd")

    async def read_answer(self) -> bytes:
        self.status = 200
        self._call.observer.read({"usage": {"prompt_tokens": 3, "completion_tokens": 4}})
        return b""


@pytest.mark.parametrize(
    ("kind", "asked", "context", "sent"),
    [
        ("chat", {}, None, {"max_tokens": 64}),
        ("chat", {}, 65, {"max_tokens": 64}),
        ("chat", {}, 64, {}),  # vLLM refuses to be asked for more than fits
        ("chat", {"max_tokens": 5}, 64, {"max_tokens": 5}),
        ("completion", {}, 64, {"max_tokens": 64}),  # which would end after 16 tokens
    ],
)
def test_an_address_is_told_the_limit_where_none_is_named(
    tmp_path: Path, kind: Any, asked: Any, context: int | None, sent: Any
) -> None:
    capabilities = row_of(Capabilities, fields=["max_tokens"], kinds=["chat"], context=context)
    remote = replace(backend("r"), engine="remote", capabilities=capabilities)
    own = Backend(remote, tmp_path, "", PUBLIC, 8, ())
    own.capabilities = capabilities

    async def body() -> Any:
        call = Call("e1", "r1", kind)
        call.body = asked
        attempt = Attempt(call, Route(route("live", "r"), own, RouteCounts("m", route("live", "r"))))
        return json.loads(attempt._build_body())

    assert asyncio.run(body()) == {"model": "base"} | sent


@pytest.mark.parametrize(("engine", "mean"), [("worker", -0.5), ("remote", None)])
def test_a_process_of_ours_alone_tells_something_beside_its_answer(
    tmp_path: Path, engine: Literal["worker", "remote"], mean: float | None
) -> None:
    own = Backend(replace(backend("r"), engine=engine), tmp_path, "", PUBLIC, 8, ())

    async def passed_on() -> Call:
        call = Call("e1", "r1", "chat")
        attempt = Attempt(call, Route(route("live", "r"), own, RouteCounts("m", route("live", "r"))))
        attempt._read({"choices": []}, LogprobTally(-1.0, 2))
        return call

    assert asyncio.run(passed_on()).observer.mean_logprob == mean


def change(endpoint: ServedEndpoint, name: str, **does: object) -> None:
    """Another backend in place of the live one."""
    endpoint.config["backends"] = [backend(name, **does)]
    endpoint.config["models"] = [{"name": "m", "routes": [route("live", name)]}]
    endpoint.write_config(endpoint.config)
