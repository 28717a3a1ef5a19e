"""Every place that takes an address holds it to the one policy: by its text, and by where its name leads."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.judge import score_preferences
from engine.evaluation.metrics.measurement import measure
from engine.job_handlers import write_spec
from engine.monitoring.alerts import send_message
from engine.playground.answers import RemoteAnswer
from engine.playground.conversations import ConversationService
from engine.serving.endpoint_folders import build_gateway_config
from engine.serving.gateway.backend_http import BackendClient, BackendConnectionError
from engine.serving.gateway.backend_processes import Backend
from engine.worker.job import WorkerJob
from store.core.address_policy import AddressPolicy
from store.core.addresses import parse_network
from store.core.errors import ConfigError, ForbiddenError, TunebenchError
from store.core.home import Home
from store.core.metric_options import Endpoint, JudgeChoice
from store.core.metrics_config import MetricsConfig
from store.core.rights import OWNER
from store.core.schemas import Person
from store.jobs import job_queue
from store.people import activity, settings
from store.playground.config import ChatSampling
from store.serving import endpoints
from tests.unit.judge_server import completion, judging
from tests.unit.people_samples import Company
from tests.unit.serving.served_endpoint import backend

MEMBER = Person(person_id="p-mia", name="Mia", role="member")
PUBLIC_ADDRESS, LINK_LOCAL, PRIVATE = "93.184.216.34", "169.254.169.254", "10.1.2.3"
BY_NAME = "https://model.example/v1"
LOOPBACK = ("127.0.0.0/8",)


def bodies(url: str) -> list[tuple[str, dict[str, Any], str]]:
    """Each command that takes an address, with the field at fault."""
    talk = {"base_url": url, "model": "m"}
    judge = {"metric": "judge", **talk}
    route = {"subject": url, "remote": {"model": "m"}}
    return [
        ("judge", {"first": "a", "second": "b", "judge": judge}, "base_url"),
        ("evaluate", {"run": "r", "metrics": ["chrf", judge]}, "base_url"),
        ("judge_requests", {"endpoint": "Bank", "judge": judge}, "base_url"),
        ("begin_conversation", {"title": "t", "models": [{"endpoint": talk}]}, "base_url"),
        ("make_endpoint", {"name": "e", "models": [{"name": "m", "routes": [route]}]}, "subject"),
        ("set_webhook", {"url": url, "secret": "a secret of both sides"}, "url"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        f"https://{LINK_LOCAL}/v1", "https://[::ffff:a9fe:a9fe]/v1", "https://[fd00:ec2::254]/v1",
        "https://metadata.google.internal/v1", "https://2852039166/v1", "https://0/v1",
    ],
)  # fmt: skip
def test_what_nobody_reaches_is_refused_everywhere_whatever_is_allowed(company: Company, url: str) -> None:
    for network in ("0.0.0.0/0", "::/0"):
        company("allow_network", network=network)
    for name, body, field in bodies(url):
        with pytest.raises(ConfigError) as refused:
            company(name, **body)
        assert refused.value.field.endswith(field), name
        assert not isinstance(refused.value, ForbiddenError)
    with pytest.raises(ConfigError):
        talked(company, url)


def talked(company: Company, url: str) -> None:
    launcher: Any = None  # nothing comes to be launched
    talking = ConversationService(company.database, launcher, company.home, ["cpu"])
    body = {"models": [{"endpoint": {"base_url": url, "model": "m"}}], "messages": [_says("Hello")]}
    asyncio.run(talking.generate(body, OWNER))


def _says(text: str) -> Any:
    return {"role": "user", "content": text}


def test_a_private_address_is_refused_everywhere_until_an_admin_allows_it(company: Company) -> None:
    url = f"https://{PRIVATE}/v1"
    for name, body, field in bodies(url):
        with pytest.raises(ConfigError, match="private network") as refused:
            company(name, **body)
        assert refused.value.field == field
        assert f"tunebench team allow-network {PRIVATE}" in refused.value.fix
    with pytest.raises(ConfigError, match="private network"):
        talked(company, url)
    company("allow_network", network="10.1.0.0/16")
    refusals = []
    for name, body, _ in bodies(url):
        try:
            company(name, **body)
        except TunebenchError as error:  # it comes as far as to what is not there
            refusals.append(error.message)
    assert not [message for message in refusals if PRIVATE in message]
    talked(company, url)


def test_admins_alone_allow_networks_and_the_activity_has_it(company: Company) -> None:
    for name in ("allow_network", "refuse_network"):
        with pytest.raises(ForbiddenError):
            company(name, by=MEMBER, network="10.0.0.0/8")
    company("allow_network", network="10.1.2.3/16")
    company("allow_network", network=" 10.1.0.0/16 ")
    company("allow_network", network="fd12::1")
    assert settings.networks(company.database) == ["10.1.0.0/16", "fd12::1/128"]
    company("refuse_network", network="fd12::1")
    assert settings.networks(company.database) == ["10.1.0.0/16"]
    with pytest.raises(ConfigError, match=r"not allowed.*10\.1\.0\.0/16"):
        company("refuse_network", network="10.2.0.0/16")
    with pytest.raises(ConfigError, match=r"such as 10\.1\.0\.0/16"):
        company("allow_network", network="the lab")
    _, lines = activity.listed(company.database, activity.ActivityFilter(commands=("refuse_network",)))
    assert [line.subject_name for line in lines] == ["the network fd12::1/128"]


def test_an_endpoint_of_before_says_which_command_to_run(company: Company) -> None:
    company("allow_network", network="10.0.0.0/8")
    name, body, _ = bodies(f"https://{PRIVATE}/v1")[4]
    company(name, **body)
    row = endpoints.get(company.database, "e")
    assert build_gateway_config(company.database, company.home, row).networks == ["10.0.0.0/8"]
    company("refuse_network", network="10.0.0.0/8")
    with pytest.raises(ConfigError, match="private network") as refused:
        build_gateway_config(company.database, company.home, row)
    assert "allow-network" in refused.value.fix


def test_workers_are_told_the_networks(company: Company) -> None:
    company("allow_network", network="10.1.0.0/16")
    with company.database.transaction() as tx:
        job_queue.insert(tx, job_queue.NewJob("job-1", "convert", "Convert", {"model": "m"}, 0.0))
    job = job_queue.get_job(company.database, "job-1")
    folder = write_spec(company.database, company.home, job)
    policy = WorkerJob(folder.path).policy
    assert policy.networks == (parse_network("10.1.0.0/16"),)
    assert policy.home
    assert policy.home.path == company.home.path


# -- connecting: by a name that leads there, at once or at the second look ----------------------------


def _metric(policy: AddressPolicy, home: Path, url: str) -> str:
    choice = {"metric": "judge", "base_url": url, "model": "m", "retries": 0}
    config = MetricsConfig.parse({"metrics": [choice]})
    answers = Answers(np.arange(2), ["a", "b"], None, ["p", "q"])
    (scored,) = measure(config, answers, Home(home), policy=policy, log=lambda text: None)
    return scored.failed


def _pairs(policy: AddressPolicy, home: Path, url: str) -> str:
    choice = JudgeChoice.parse({"metric": "judge", "base_url": url, "model": "m", "retries": 0})
    rows = Answers(np.arange(1), ["a"], None, ["p"])
    try:
        return score_preferences(choice, rows, rows, Home(home), policy).failed
    except ConfigError as error:
        return str(error)


def _talk(policy: AddressPolicy, home: Path, url: str) -> str:
    endpoint = Endpoint.parse({"base_url": url, "model": "m"})
    try:
        return str(list(RemoteAnswer(endpoint, [_says("x")], ChatSampling(), policy).stream_events()))
    except TunebenchError as error:
        return str(error)


def _webhook(policy: AddressPolicy, home: Path, url: str) -> str:
    return send_message(url, "a secret", "{}", 0, policy).trouble


def _route(policy: AddressPolicy, home: Path, url: str) -> str:
    async def asked() -> str:
        try:
            body = json.dumps({"messages": [_says("x")]}).encode()
            reply = await BackendClient(url=url, policy=policy).send("POST", "/v1/chat/completions", body)
        except BackendConnectionError as error:
            return str(error)
        reply.close()
        return ""

    return asyncio.run(asked())


PLACES: list[Callable[[AddressPolicy, Path, str], str]] = [_metric, _pairs, _talk, _webhook, _route]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where a connection was tried, of which none comes about."""
    tried: list[str] = []

    def note(place: Any) -> None:
        tried.append(str(place[0]))
        raise ConnectionRefusedError("nobody connects in this test")

    class Socket(socket.socket):
        def connect(self, place: Any) -> None:
            note(place)

    async def connect(self: Any, sock: Any, place: Any) -> None:
        note(place)

    monkeypatch.setattr(socket, "socket", Socket)
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    return tried


@pytest.mark.parametrize("reach", PLACES)
@pytest.mark.parametrize(("place", "why"), [(LINK_LOCAL, "link-local"), (PRIVATE, "private network")])
def test_a_name_that_leads_where_it_must_not_is_refused(
    tmp_path: Path, tried: list[str], reach: Any, place: str, why: str
) -> None:
    message = reach(AddressPolicy((), None, lambda host, port: [place]), tmp_path, BY_NAME)
    assert f"model.example is at {place}, which is" in message
    assert why in message
    assert tried == []


@pytest.mark.parametrize("reach", PLACES)
def test_a_name_that_leads_elsewhere_at_the_second_look_gets_nowhere(
    tmp_path: Path, tried: list[str], reach: Any
) -> None:
    answers = [[PUBLIC_ADDRESS]]

    def look_up(host: str, port: int) -> list[str]:
        return answers.pop() if answers else [PRIVATE]

    reach(AddressPolicy((), None, look_up), tmp_path, BY_NAME)
    assert PRIVATE not in tried
    assert reach in (_metric, _pairs) or set(tried) == {PUBLIC_ADDRESS}, "these look once alone"


@pytest.mark.parametrize("reach", PLACES)
def test_an_allowed_network_is_connected_to(tmp_path: Path, tried: list[str], reach: Any) -> None:
    policy = AddressPolicy((parse_network("10.1.0.0/16"),), None, lambda host, port: [PRIVATE])
    reach(policy, tmp_path, BY_NAME)
    assert set(tried) == {PRIVATE}


@pytest.mark.parametrize("reach", [_metric, _pairs, _talk, _route])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_model_on_this_machine_is_reached(tmp_path: Path, reach: Any, host: str) -> None:
    verdict = json.dumps({"grade": 3, "better": "first"})
    with judging(lambda *_: completion(verdict)) as server:
        reach(AddressPolicy(), tmp_path, server.base_url.replace("127.0.0.1", host))
        assert server.requests


def test_a_route_that_is_allowed_later_is_taken_and_one_taken_back_is_not(tmp_path: Path) -> None:
    remote = replace(backend("r"), engine="remote", url=f"https://{PRIVATE}/v1")
    own = Backend(remote, tmp_path, "", AddressPolicy(), 8, ())
    own._connect_remote()
    assert own.phase == "failed"
    assert "tunebench team allow-network" in own.unavailable_reason
    own.set_policy(AddressPolicy((parse_network("10.1.0.0/16"),)))
    assert own.phase == "ready"
    own.set_policy(AddressPolicy())
    assert own.phase == "failed"


@pytest.mark.parametrize("under_way", [False, True])
def test_an_unreachable_route_that_is_taken_back_is_probed_no_more(
    tmp_path: Path, tried: list[str], under_way: bool
) -> None:
    remote = replace(backend("r"), engine="remote", url=f"https://{PRIVATE}/v1")
    own = Backend(remote, tmp_path, "", AddressPolicy((parse_network("10.1.0.0/16"),)), 8, ())

    async def taken_back() -> None:
        own._connect_remote()
        await own._probe_address()
        second = asyncio.create_task(own._probe_address())
        if not under_way:
            await second
            assert own.build_state().unreachable_since is not None
        await asyncio.sleep(0)
        own.set_policy(AddressPolicy())
        await second

    asyncio.run(taken_back())
    assert tried
    assert (own.phase, own.client, own.build_state().unreachable_since) == ("failed", None, None)
    assert "tunebench team allow-network" in own.unavailable_reason
