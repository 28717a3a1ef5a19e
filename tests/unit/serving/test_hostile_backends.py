"""Addresses that mean harm: a fallback answers in their place, in time, and no shadow of theirs is felt."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import psutil
import pytest

from store.serving.schemas import Capabilities, ServedBackend
from tests.unit.serving.hostile_server import BEHAVIOURS, KEY, PASSED_ON, HostileServer
from tests.unit.serving.served_endpoint import ServedEndpoint, backend, route, served
from tests.unit.serving.stub_backend import FIELDS, KINDS

SECONDS = 4.0
GROWTH_MIB = 200


def address(name: str, url: str) -> ServedBackend:
    """A backend elsewhere that behaves so."""
    capabilities = Capabilities(
        engine="remote", version="", kinds=KINDS, fields=FIELDS, context=None, template=True, models=[name]
    )
    return replace(backend(name), engine="remote", url=url, capabilities=capabilities, key_env="THEIRS")


def models_of(names: list[str]) -> list[dict[str, Any]]:
    """Each behaviour as a shadow, and as the live one before a fallback."""
    good = route("live", "good")
    own = {name: replace(route("live", name), asked_as=name) for name in names}
    return [
        {"name": "plain", "routes": [good]},
        *({"name": f"copied {name}", "routes": [good, replace(own[name], role="shadow")]} for name in names),
        *({"name": f"saved {name}", "routes": [own[name], route("fallback", "good")]} for name in names),
        *({"name": f"alone {name}", "routes": [own[name]]} for name in names),
    ]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    os.environ["THEIRS"] = KEY
    names = [*BEHAVIOURS, *PASSED_ON]
    with HostileServer() as server:
        backends = [backend("good", words=["good"]), *(address(name, server.url) for name in names)]
        with served(
            tmp_path_factory.mktemp("e"), backends, [route("live", "good")], seconds=SECONDS, shadow_queue=200
        ) as endpoint:
            endpoint.config["models"] = models_of(names)
            endpoint.write_config(endpoint.config)
            endpoint.wait_for(lambda: len(endpoint.state()["routes"]) == 1 + 5 * len(names))
            yield endpoint
    del os.environ["THEIRS"]


def ask(endpoint: ServedEndpoint, model: str, **body: Any) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    return endpoint.post(model=model, **body), time.monotonic() - began


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_fallback_answers_in_time_for_an_address_that_means_harm(
    endpoint: ServedEndpoint, name: str, stream: bool
) -> None:
    if stream and name == "events-without-end":
        pytest.skip("that is an answer, until it is over its limit")
    answer, seconds = ask(endpoint, f"saved {name}", stream=stream)
    assert answer.status_code == 200
    assert '"good@1"' in answer.text
    assert "mine" not in answer.text
    assert seconds < SECONDS


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_one_without_a_fallback_is_an_error_that_says_why(endpoint: ServedEndpoint, name: str) -> None:
    answer, seconds = ask(endpoint, f"alone {name}")
    assert answer.status_code in (500, 502, 503, 504)
    if name != "500":
        assert answer.json()["error"]["code"] in ("backend_broken", "timeout")
    assert KEY not in answer.text
    assert len(answer.content) < 2**21
    assert seconds < SECONDS + 2


def test_no_shadow_that_means_harm_is_felt(endpoint: ServedEndpoint) -> None:
    assert endpoint.process
    before = psutil.Process(endpoint.process.pid).memory_info().rss
    written = len(endpoint.lines())
    plain = without_ids(endpoint.post(model="plain"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: endpoint.post(model=f"copied {name}"), BEHAVIOURS))
    assert [without_ids(answer) for answer in answers] == [plain] * len(BEHAVIOURS)
    expected = 1 + 2 * len(BEHAVIOURS)
    endpoint.wait_for(lambda: len(endpoint.lines()) == written + expected, SECONDS * len(BEHAVIOURS))
    lines = endpoint.lines()[written:]
    copies = [line for line in lines if line["role"] == "shadow"]
    ids = Counter(line["request_id"] for line in lines)
    assert set(ids.values()) == {1}
    assert {line["copy_of"] for line in copies} == {answer.json()["id"] for answer in answers}
    assert {line["status"] for line in copies} <= {401, 500, 502, 503}
    assert "internal_error" not in {line["error"] for line in lines}
    grown = psutil.Process(endpoint.process.pid).memory_info().rss - before
    assert grown / 2**20 < GROWTH_MIB
    assert "Traceback" not in endpoint.log_text()


def without_ids(answer: httpx.Response) -> Any:
    """An answer without what is of one request."""
    document = answer.json()
    return answer.status_code, {**document, "id": "", "created": 0}


def test_what_is_passed_on_holds_no_key_and_no_header_of_theirs(endpoint: ServedEndpoint) -> None:
    assert endpoint.post(model="alone 429").headers["retry-after"] == "7"
    answer = endpoint.post(model="alone 429-with-a-header-in-a-header")
    assert answer.status_code == 429
    assert "x-theirs" not in answer.headers
    assert KEY not in endpoint.post(model="alone 400-with-the-key").text
    assert KEY not in endpoint.post(model="alone an-event-that-fails", stream=True).text


def test_a_stream_ends_with_its_mark_whatever_comes_after(endpoint: ServedEndpoint) -> None:
    answer, seconds = ask(endpoint, "alone goes-on-after-its-end", stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert seconds < SECONDS


def test_a_stream_without_end_is_cut_and_said(endpoint: ServedEndpoint) -> None:
    for name in ("an-event-without-end", "a-line-without-end"):
        answer, seconds = ask(endpoint, f"alone {name}", stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "backend_broken")
        assert "longer than 2 MiB" in answer.json()["error"]["message"]
        assert seconds < SECONDS
