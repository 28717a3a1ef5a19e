"""An agent over the Model Context Protocol, by the SDK's own client, against a real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from mcp import Client as AgentClient
from mcp.client.stdio import StdioServerParameters

from store.evaluation.verdict_schemas import RunFigure
from store.http.client import Client
from tests.engine.houses import RUN, House, write_sums
from tunebench.agents import server
from tunebench.agents.answers import bound_document, describe_run_figure
from tunebench.agents.messages import MAX_BYTES

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load(RUN)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("agents")
    house = House(folder / "home")
    write_sums(folder / "sums.jsonl")
    try:
        house("import", str(folder / "sums.jsonl"), "--name", "Sums")
        yield house
    finally:
        house("down")


class Agent:
    """Calls of one session; `refused` has the text of those that failed."""

    def __init__(self, client: AgentClient) -> None:
        self.client = client

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        result = await self.client.call_tool(tool, arguments)
        text = str(result.content[0].text)  # type: ignore[union-attr]
        assert not result.is_error, text
        assert json.loads(text) == result.structured_content
        return result.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        text = str(result.content[0].text)  # type: ignore[union-attr]
        assert result.is_error, text
        assert "Traceback" not in text
        assert "\n" not in text
        return text


def test_an_agent_launches_through_a_preview_alone(house: House) -> None:
    async def act() -> None:
        async with AgentClient(server.build_server(lambda: house.client)) as client:
            agent = Agent(client)
            text = await agent.refused("launch_run", **CONFIG, confirmation="made up")
            assert "Call preview_launch" in text
            answer = await agent("preview_launch", **CONFIG)
            assert answer["cost"].startswith("unknown")
            assert "to" in answer["time"]["range"]
            assert answer["memory"]["fits"]
            assert answer["rows"]["train"] > 0
            code = answer["confirmation"]
            other = CONFIG | {"learning_rate": 0.5}
            text = await agent.refused("launch_run", **other, confirmation=code)
            assert "another config" in text
            run_id = (await agent("launch_run", **CONFIG, confirmation=code))["run_id"]
            assert "invalid, expired or already used" in await agent.refused(
                "launch_run", **CONFIG, confirmation=code
            )
            for _ in range(1200):
                state = await agent("get_job", job=run_id)
                if state["has_ended"]:
                    break
                await anyio.sleep(0.1)
            assert state["status"] == "finished", state
            run = await agent("get_run", run="First")
            gain = next(text for text in run["verdict"]["figures"] if text.startswith("gain: "))
            assert "95% interval" in gain
            assert gain.endswith(("above 0", "below 0", "different from 0"))
            assert run["verdict"]["headline"]
            listed = await agent("list_runs")
            assert (listed["total"], listed["runs"][0]["run_id"]) == (1, run_id)
            assert "one run to compare" in await agent.refused("compare_runs", names=["First", run_id])
            bad = await agent.refused("preview_launch", **CONFIG, rate=1)
            assert "There is no field rate" in bad
            trusting = CONFIG | {"trust_remote_code": True}
            assert "does not run custom code" in await agent.refused("preview_launch", **trusting)
            assert "does not run custom code" in await agent.refused(
                "launch_run", **trusting, confirmation=""
            )
            assert "no run 'x'" in await agent.refused("get_run", run="x")

    anyio.run(act)


def test_what_it_reads_is_bounded_and_only_read(house: House) -> None:
    async def act() -> None:
        async with AgentClient(server.build_server(lambda: house.client)) as client:
            agent = Agent(client)
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert not [name for name in names if "delete" in name or "promote" in name]
            assert (await agent("list_datasets"))["datasets"][0]["rows"] == 80
            dataset = await agent("get_dataset", dataset="Sums")
            assert dataset["versions"][0]["name"] == "Sums"
            answer = await agent("sql", statement="SELECT range AS n FROM range(900)", limit=3)
            assert (answer["total"], answer["rows"]) == (900, [[0], [1], [2]])
            assert "only reads" in await agent.refused("sql", statement="DROP TABLE run")
            long = await agent("sql", statement="SELECT repeat('x', 5000) AS x")
            assert len(long["rows"][0][0]) == 2000
            assert "the first 2,000 of 5,000 characters" in long["cut"][0]
            assert (await agent("list_models"))["base_models"][0]["name"] == "tiny"
            assert await agent("list_evaluations") == {"may_be_more": False, "evaluations": []}

    anyio.run(act)


def test_it_may_do_what_the_owner_of_its_token_may(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.client.command("set_team", {"on": True})
    door = Client(house.home, secret=house.home.screens_token)
    secret = house.client.command("invite", {"role": "viewer"})["secret"]
    body = {"secret": secret, "email": "v@example.org", "name": "Vera", "password": "a long sentence"}
    session = door.door("accept", body)["session"]
    token = door.acting_for(session).command("make_token", {"name": "agent"})["token"]

    async def act() -> None:
        environment = {**os.environ, "TUNEBENCH_HOME": str(house.home.path), "TUNEBENCH_TOKEN": token}
        command = ["-m", "tunebench.cli", "mcp"]
        served = StdioServerParameters(command=sys.executable, args=command, env=environment, cwd=ROOT)
        async with AgentClient(served) as client:
            agent = Agent(client)
            assert (await agent("list_datasets"))["total"] == 1
            for tool, more in (("preview_launch", {}), ("launch_run", {"confirmation": "a"})):
                text = await agent.refused(tool, **CONFIG, **more)
                assert "A viewer may not change, launch or delete anything" in text

    anyio.run(act)


def request(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping", **fields}).encode()


# A line, the id that its answer has, and the code; the server has to go on after each.
MALFORMED = [
    (b"nonsense", None, -32700),
    (b'{"jsonrpc": "2.0", "id": 7', None, -32700),
    (b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', None, -32700),
    (b'{"jsonrpc": "2.0", "id": 7, "method": "ping\xff"}', None, -32700),
    (request(params={"x": "\ud800"}), None, -32700),
    (b"[" * 100_000, None, -32700),
    (b"42", None, -32600),
    (b"null", None, -32600),
    (b"[]", None, -32600),
    (b"[" + request() + b"]", None, -32600),
    (request(jsonrpc="1.0"), 7, -32600),
    (b'{"id": "a", "method": "ping"}', "a", -32600),
    (b'{"jsonrpc": "2.0", "id": 7}', 7, -32600),
    (request(method=7), 7, -32600),
    *((request(id=wrong), None, -32600) for wrong in (None, True, 1.5, [1], {"a": 1})),
    (request(params={"x": "y" * MAX_BYTES}), None, -32600),
    (request(method="nope"), 7, -32601),
    (request(method="tools/call", params=[1]), 7, -32602),
    (request(method="tools/call", params="x"), 7, -32602),
    (request(method="tools/call", params={"name": 5}), 7, -32602),
    (request(method="tools/call", params={"name": "sql", "arguments": []}), 7, -32602),
]


def test_a_malformed_message_is_answered_by_its_error_and_the_server_goes_on(tmp_path: Path) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    command = [sys.executable, "-m", "tunebench.cli", "mcp"]
    environment = {**os.environ, "TUNEBENCH_HOME": str(tmp_path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as served:
        assert served.stdin
        assert served.stdout

        def send(line: bytes) -> None:
            assert served.stdin
            served.stdin.write(line + b"\n")
            served.stdin.flush()

        def answer() -> dict[str, Any]:
            assert served.stdout
            return dict(json.loads(served.stdout.readline()))

        send(request(method="initialize", params=hello))
        assert "result" in answer()
        send(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        for line, own, code in MALFORMED:
            send(line)
            send(b"")
            send(b'{"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "x"}}')  # never answered
            refused = answer()
            assert (refused["id"], refused["error"]["code"]) == (own, code), line[:80]
            assert refused["error"]["message"]
            send(request(id="next"))
            assert answer() == {"jsonrpc": "2.0", "id": "next", "result": {}}
        served.stdin.close()
        assert served.wait(30) == 0


def test_an_answer_says_what_can_be_told() -> None:
    gain = RunFigure(key="gain", title="gain", unit="nats", value=0.1, low=-0.1, high=0.3, n=9)
    assert describe_run_figure(gain).endswith("not significantly different from 0")
    assert "no interval" in describe_run_figure(replace(gain, low=None))
    short = bound_document({"rows": list(range(900)), "bad": float("nan")})
    assert len(short["rows"]) == 200
    assert short["cut"] == ["rows: the first 200 of 900 entries"]
    assert short["bad"] is None
