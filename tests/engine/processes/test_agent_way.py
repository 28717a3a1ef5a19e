"""An agent takes a file to a verdict, a gate and a monitored endpoint: by the protocol's own client, over
standard input and output, against a real engine and a tiny model."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client as AgentClient
from mcp import ClientSession, StdioServerParameters, stdio_client

from store.core.rights import TOOLS
from store.export import exports
from store.http.client import Client
from tests.engine.houses import House, write_sums
from tunebench.agents import server

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 120.0  # that one step may take on a busy machine
RUN: dict[str, Any] = {
    "dataset": "Sums 2", "model": "tiny", "dtype": "float32", "r": 4, "num_train_epochs": 1,
    "learning_rate": 0.005, "evaluations": 2, "probes": False, "sample_prompts": 2, "max_new_tokens": 4,
    "early_stopping": False,
}  # fmt: skip
NAMES: dict[str, Any] = {  # for the arguments that a tool which looks needs
    "run": "At 0.005", "job": "At 0.005", "dataset": "Sums", "evaluation": "Tuned", "first": "Tuned",
    "second": "Base", "names": ["At 0.005", "At 0.001"], "model": "sums", "version": "sums@1",
    "endpoint": "Sums",
}  # fmt: skip


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "home")
    write_sums(tmp_path / "files" / "sums.jsonl")
    house("resume", "nothing", code=3)  # starts the engine
    try:
        yield house
    finally:
        house("down")


class Agent:
    """A session of the protocol's client, which holds every answer to the tool's own output schema."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        result = await self.session.call_tool(tool, arguments)
        text = str(result.content[0].text)  # type: ignore[union-attr]
        assert not result.is_error, (tool, text)
        assert json.loads(text) == result.structured_content
        return result.structured_content

    async def work(self, tool: str, **arguments: Any) -> Any:
        """Start work, and poll until it has finished; the job."""
        started = await self(tool, **arguments)
        return await self.ended(started.get("job_id") or started["run_id"])

    async def ended(self, job_id: str) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (job := await self("get_job", job=job_id))["has_ended"]:
            assert time.monotonic() < deadline, job
            await anyio.sleep(0.2)
        assert job["status"] == "finished", job
        return job

    async def until(self, state: str) -> None:
        """Until the endpoint is so."""
        deadline = time.monotonic() + SECONDS
        while (seen := (await self("list_endpoints"))["endpoints"][0])["state"] != state:
            assert not seen["problem"], seen
            assert time.monotonic() < deadline, seen
            await anyio.sleep(0.2)


def test_an_agent_takes_a_file_to_a_monitored_endpoint(house: House, tmp_path: Path) -> None:
    async def act() -> None:
        command = ["-m", "tunebench.cli", "mcp", "--files", str(tmp_path / "files")]
        environment = {**os.environ, "TUNEBENCH_HOME": str(house.home.path), "OMP_NUM_THREADS": "1"}
        served = StdioServerParameters(command=sys.executable, args=command, env=environment, cwd=ROOT)
        async with stdio_client(served) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            agent = Agent(session)
            await take_in(agent, tmp_path / "files" / "sums.jsonl")
            await train(agent)
            await ship(agent)
            await serve(agent)

    anyio.run(act)
    anyio.run(look_as_viewer, house)


async def look_as_viewer(house: House) -> None:
    """What a viewer may look at, with the names that there are: nothing beneath refuses it."""
    house.client.command("set_team", {"on": True})
    door = Client(house.home, secret=house.home.screens_token)
    secret = house.client.command("invite", {"role": "viewer"})["secret"]
    body = {"secret": secret, "email": "v@example.org", "name": "Vera", "password": "a long sentence"}
    viewer = door.acting_for(door.door("accept", body)["session"])
    names = NAMES | {"export": exports.recent(viewer)[0].job_id}
    async with AgentClient(server.build_server(lambda: viewer)) as client:
        for tool in (await client.list_tools()).tools:
            if TOOLS[tool.name] != "look":
                continue
            wanted = tool.input_schema.get("required", [])
            arguments = {field: names[field] for field in wanted}
            if tool.name == "get_bias_check":
                arguments["of"] = "At 0.005"
            result = await client.call_tool(tool.name, arguments)
            assert not result.is_error, (tool.name, result.content)


async def take_in(agent: Agent, file: Path) -> None:
    """Import, profile, clean."""
    seen = await agent("inspect_file", source={"path": str(file)})
    assert seen["format"] == "prompt_completion", seen
    assert (await agent.work("import_dataset", source={"path": str(file)}, name="Sums"))["result"]
    await agent.work("profile_dataset", dataset="Sums", group="text")
    assert "text" in (await agent("get_profile", dataset="Sums"))["groups"]
    rows = await agent("read_rows", dataset="Sums", limit=2)
    assert (rows["total"], len(rows["rows"])) == (80, 2)
    assert "Number 0?" in rows["rows"][0]["text"]["quoted"]
    recipe = {"steps": [{"step": "drop_duplicates"}, {"step": "normalise"}]}
    outlook = await agent("preview_clean", dataset="Sums", recipe=recipe)
    assert outlook["fates"]["kept"] + outlook["fates"]["dropped"] + outlook["fates"]["changed"] == 80
    await agent.work("clean_dataset", dataset="Sums", recipe=recipe, name="Sums 2")
    assert (await agent("get_dataset", dataset="Sums 2"))["fates"]["steps"][0]["rows_in"] == 80


async def train(agent: Agent) -> None:
    """Launch, evaluate, compare, check for bias."""
    runs = []
    for rate in (0.005, 0.001):
        config = RUN | {"learning_rate": rate, "name": f"At {rate}"}
        preview = await agent("preview_launch", **config)
        runs.append(await agent.work("launch_run", **config, confirmation=preview["confirmation"]))
    run = await agent("get_run", run="At 0.005")
    assert any(line.startswith("gain: ") and "95% interval" in line for line in run["verdict"]["figures"])
    compared = await agent("compare_runs", names=["At 0.005", "At 0.001"])
    assert compared["differences"][0]["sentence"]
    first = await agent.work("evaluate", run="At 0.005", metrics=["perplexity"], name="Tuned")
    again = {"checkpoint": "base", "metrics": ["perplexity"], "name": "Base", "rows_of": first["job_id"]}
    await agent.work("evaluate", run="At 0.005", **again)
    compared = await agent("compare_evaluations", first="Tuned", second="Base")
    assert compared["metrics"][0]["first_is"]
    assert (await agent("read_answers", evaluation="Tuned", limit=1))["rows"][0]["prompt"]["quoted"]
    check = await agent.work("check_bias", run="At 0.005")
    report = await agent("get_bias_check", of="At 0.005")
    assert report["job_id"] == check["job_id"]
    assert report["figures"][0]["answer"] in ("worse", "better", "no_worse", "cant_tell")


async def ship(agent: Agent) -> None:
    """Register, gate, export."""
    await agent.work("register_model", name="sums", run="At 0.005")
    assert (await agent("get_model", model="sums"))["versions"][0]["version"] == 1
    bound = {"check": "better_on_task", "dataset": "Sums 2", "metric": "perplexity"}
    assert (await agent("set_gate", model="sums", gate={"checks": [bound]}))["checks"] == 1
    before = await agent("check_gate", version="sums@1")
    assert before["answer"] == "cant_tell"
    for job_id in (await agent("gather_gate_evidence", version="sums@1"))["job_ids"]:
        await agent.ended(job_id)
    assert (await agent("check_gate", version="sums@1"))["checks"][0]["value"]["n"] > 0
    export = await agent.work("export_model", subject="sums@1", form="adapter", max_rows=8)
    assert (await agent("get_export", export=export["job_id"]))["form"] == "adapter"


async def serve(agent: Agent) -> None:
    """Serve, ask, monitor."""
    models = [{"name": "sums", "routes": [{"subject": "sums@1"}]}]
    endpoint = await agent("serve_model", name="Sums", models=models, dtype="float32")
    await agent.until("ready")
    question = [{"role": "user", "content": "Number 7?"}]
    asked = {"endpoint": "Sums", "key": endpoint["key"], "messages": question, "max_tokens": 4}
    answer = await agent("ask_endpoint", **asked)
    assert answer["completion_tokens"] > 0
    assert answer["answer"]["characters"] >= 0
    changed = await agent("set_monitor", endpoint="Sums", most_errors=0.2)
    assert changed["settings"]["most_errors"] == 0.2
    deadline = time.monotonic() + SECONDS
    while not (report := await agent("get_monitor", endpoint="Sums"))["traffic"]:
        assert time.monotonic() < deadline, report
        await anyio.sleep(0.2)
    assert report["traffic"][0]["requests"] == 1
    proposed = await agent("label_next", endpoint="Sums", protocol="label")
    assert proposed["requests"][0]["text"]["quoted"] == "Number 7?"
    assert proposed["requests"][0]["reasons"]
    assert (await agent("stop_endpoint", endpoint="Sums"))["state"] in ("stopping", "stopped")
    await agent.until("stopped")
