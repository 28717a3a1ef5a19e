"""The talking process as the engine has it: started when asked, stopped within a token, dead without harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from engine.launchers.local import LocalLauncher
from engine.server.talk.talk_process import TalkProcess
from engine.server.talk.talking import IDLE_SECONDS, Talking
from store.contract.errors import ConfigError, StateError
from store.contract.home import Home
from store.contract.roles import OWNER
from store.db.database import Database
from store.queries import conversations, jobs
from tests.engine.talking.talkers import ASKED, choice
from tests.tiny import write_model

NOW = 1_700_000_000.0


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def launcher() -> Iterator[LocalLauncher]:
    forking = LocalLauncher()
    yield forking
    forking.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("talk")).create()
    write_model(home.models / "tiny", max_position_embeddings=4096)
    return home


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    opened = Database(home.path / "store.duckdb", [home.datasets, home.jobs])
    yield opened
    opened.close()
    (home.path / "store.duckdb").unlink()


@pytest.fixture
def talking(home: Home, launcher: LocalLauncher, database: Database) -> Iterator[Talking]:
    at_work = Talking(database, launcher, home, ["cpu"], Clock())
    yield at_work
    at_work.close()


def clock_of(talking: Talking) -> Clock:
    return talking._clock  # type: ignore[return-value]


def order(most: int = 8, **fields: Any) -> Any:
    asked = choice("tiny", sampling={"max_new_tokens": most, "temperature": 1.0, **fields})
    return {"do": "answer", "id": "", "model": asked.model_dump(), "label": "Tiny", "messages": ASKED}


def body(most: int = 8, *names: str, **fields: Any) -> dict[str, Any]:
    models = [order(most, **fields)["model"] | {"model": name} for name in names or ("tiny",)]
    return {"models": models, "messages": ASKED}


async def read(talking: Talking, asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in await talking.generate(asked, OWNER)]


async def gone(pid: int) -> None:
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"process {pid} lives on")


def kinds(events: list[dict[str, Any]], place: int = 0) -> list[str]:
    return [event["type"] for event in events if event.get("place") == place]


def test_two_answers_come_at_the_same_time_from_one_process(talking: Talking) -> None:
    async def ask() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        first = await read(talking, body(20, "tiny", "tiny"))
        pid = talking.models.pid
        second = await read(talking, body(3))
        assert talking.models.pid == pid
        assert talking.state()["loaded"] == ["tiny"]
        return first, second

    events, again = asyncio.run(ask())
    for place in (0, 1):
        assert kinds(events, place)[-1] == "end"
        assert kinds(events, place).count("token") >= 20
    places = [event["place"] for event in events if event["type"] == "token"]
    assert places != sorted(places)  # they took turns
    assert "loading" in [event["type"] for event in events]
    assert kinds(again)[0] == "begin"  # it is held
    assert again[-1]["figures"]["tokens_per_second"] > 0


def test_stopping_stops_within_a_token(talking: Talking, home: Home) -> None:
    async def stop() -> tuple[int, Any]:
        stream = talking.models.answer(order(3_000))
        async with contextlib.aclosing(stream):
            async for event in stream:
                if event["type"] == "token":
                    break
        began = time.perf_counter()
        after = [event async for event in talking.models.answer(order(1))]
        assert after[-1]["type"] == "end"
        return time.perf_counter() - began, psutil.Process(talking.models.pid).cpu_times()

    seconds, _ = asyncio.run(stop())
    assert seconds < 1.0  # three thousand tokens take many times that


def test_a_reader_that_lags_behind_is_waited_for(talking: Talking) -> None:
    async def lag() -> int:
        stream = talking.models.answer(order(1_000))
        async with contextlib.aclosing(stream):
            async for event in stream:
                if event["type"] == "token":
                    break
            await asyncio.sleep(1.0)
            alive = talking.models._alive
            assert alive is not None
            return max(events.qsize() for events in alive.answers.values())

    assert 32 < asyncio.run(lag()) <= 64


def test_a_killed_process_is_said_to_be_and_the_next_question_starts_another(talking: Talking) -> None:
    async def kill() -> tuple[list[str], dict[str, Any], int, int, list[Any]]:
        seen, error = [], {}
        first = 0
        async for line in await talking.generate(body(3_000), OWNER):
            event = json.loads(line)
            seen.append(event["type"])
            if event["type"] == "token" and not first:
                first = talking.models.pid or 0
                os.kill(first, signal.SIGKILL)
            error = event.get("error", error)
        again = await read(talking, body(3))
        return seen, error, first, talking.models.pid or 0, again

    seen, error, first, second, again = asyncio.run(kill())
    assert seen[-1] == "failed"
    assert "ended" in error["message"]
    assert "Ask again" in error["fix"]
    assert second not in (0, first)
    assert kinds(again)[-1] == "end"


def test_it_ends_with_the_engine_that_it_belongs_to(home: Home, launcher: LocalLauncher) -> None:
    async def leave() -> int:
        process = TalkProcess(launcher, home, "cpu")
        async for _ in process.answer(order(1)):
            pass
        assert process._alive is not None
        process._alive.writer.close()  # as the system does for an engine that was killed
        pid = process.pid or 0
        await gone(pid)
        return pid

    assert asyncio.run(leave())


def test_it_is_put_away_when_nobody_talks(talking: Talking) -> None:
    async def wait() -> tuple[int | None, int | None]:
        await read(talking, body(2))
        pid = talking.models.pid or 0
        assert (talking.models.memory_bytes() or 0) > 2**20
        talking.step(NOW + IDLE_SECONDS - 1)
        before = talking.models.pid
        talking.step(NOW + IDLE_SECONDS)
        await gone(pid)
        await asyncio.sleep(0.2)
        return before, talking.models.pid

    before, after = asyncio.run(wait())
    assert before
    assert after is None


def queue_run(database: Database, home: Home) -> None:
    with database.transaction() as tx:
        jobs.insert(tx, jobs.NewJob("run-1", "train", "My run", {}, NOW))


def test_it_gives_way_to_training_and_whoever_waits_is_told(
    talking: Talking, database: Database, home: Home
) -> None:
    async def train_meanwhile() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        events: list[dict[str, Any]] = []
        async for line in await talking.generate(body(3_000), OWNER):
            events.append(json.loads(line))
            if events[-1]["type"] == "token" and talking.models.pid and not jobs.queue(database):
                queue_run(database, home)
                talking.step()
        waiting: list[dict[str, Any]] = []
        async for line in await talking.generate(body(3), OWNER):
            waiting.append(json.loads(line))
            if waiting[-1]["type"] == "waiting":
                assert talking.models.pid is None
                with database.transaction() as tx:
                    jobs.finish(tx, "run-1", "cancelled", NOW)
        return events, waiting

    events, waiting = asyncio.run(train_meanwhile())
    assert events[-1]["type"] == "failed"
    assert "“My run” has the machine" in events[-1]["error"]["message"]
    assert waiting[0] == {"type": "waiting", "place": 0, "title": "My run"}
    assert waiting[-1]["type"] == "end"


def test_a_run_that_waits_for_its_data_leaves_the_machine(talking: Talking, database: Database) -> None:
    with database.transaction() as tx:
        jobs.insert(tx, jobs.NewJob("data", "import", "Data", {}, NOW))
        jobs.insert(tx, jobs.NewJob("run-1", "train", "My run", {}, NOW, after_jobs=["data"]))
    assert talking.state()["machine_has"] is None
    with database.transaction() as tx:
        jobs.claim(tx, "data", "cpu", NOW)
        jobs.finish(tx, "data", "finished", NOW, result={})
    assert talking.state()["machine_has"] == "My run"
    two = Talking(database, talking.models._launcher, talking.models._home, ["cuda:0", "cuda:1"])
    assert two.state()["machine_has"] is None  # the other one is free


def conversation(talking: Talking, database: Database, *names: str, most: int = 12, **fields: Any) -> str:
    settings: Any = {"system": "", "models": body(most, *names, **fields)["models"]}
    with database.transaction() as tx:
        conversations.begin(tx, "c", "", settings, "you", jobs.utc(NOW))
    return "c"


def test_a_turn_is_kept_with_its_answers_and_the_next_one_goes_on_from_it(
    talking: Talking, database: Database
) -> None:
    conversation(talking, database, "tiny", "gone", temperature=0.0)

    async def talk() -> tuple[str, list[dict[str, Any]]]:
        events = await read(talking, {"conversation": "c", "prompt": "Hello"})
        turn = events[0]["turn"]
        clock_of(talking).now += 1
        await read(talking, {"conversation": "c", "prompt": "And?", "parent": turn})
        return turn, events

    turn, events = asyncio.run(talk())
    kept = conversations.turn_of(database, turn)
    assert [answer["reason"] for answer in kept["answers"]] == ["length", "failed"]
    text = "".join(e["text"] for e in events if e["type"] == "token")
    assert kept["answers"][0]["text"] == text
    assert len(kept["answers"][0]["tokens"]) >= 12
    assert "gone" in kept["answers"][1]["error"]["message"]  # type: ignore[index]
    places = conversations.tree(database, "c")
    assert [place["parent_id"] for place in places] == [None, turn]
    turns = conversations.path(database, "c", places[1]["turn_id"])
    tiny = conversations.speaker(turns[0], turns[0]["answers"][0])
    asked, left_out = conversations.messages_for(turns[:1], tiny, "Be kind.")
    assert [message["content"] for message in asked] == ["Be kind.", "Hello", text]
    assert left_out == 0
    assert conversations.get_conversation(database, "c")["title"] == "Hello"


def test_one_model_talks_twice_with_sampling_of_its_own(talking: Talking, database: Database) -> None:
    """Each is told by its sampling, and goes on from what it said itself."""
    (model,) = body(12, "tiny", temperature=0.0)["models"]
    warm = {**model, "sampling": {**model["sampling"], "temperature": 2.0, "seed": 7}}
    with database.transaction() as tx:
        settings: Any = {"system": "", "models": [model, warm], "sampling": model["sampling"]}
        conversations.begin(tx, "c", "", settings, "you", jobs.utc(NOW))
    events = asyncio.run(read(talking, {"conversation": "c", "prompt": "Hello"}))
    (turn,) = conversations.path(database, "c", events[0]["turn"])
    cold_answer, warm_answer = turn["answers"]
    assert [answer["label"] for answer in turn["answers"]] == ["tiny", "tiny · temperature 2 · seed 7"]
    assert cold_answer["text"] != warm_answer["text"]
    for answer in turn["answers"]:
        asked, _ = conversations.messages_for([turn], conversations.speaker(turn, answer), "")
        assert asked[1]["content"] == answer["text"]


def test_a_browser_that_goes_away_leaves_what_had_come(talking: Talking, database: Database) -> None:
    conversation(talking, database, "tiny", most=400)  # more than a model is ahead of its reader

    async def leave() -> str:
        lines = await talking.generate({"conversation": "c", "prompt": "Hello"}, OWNER)
        turn, tokens = "", 0
        async with contextlib.aclosing(lines):
            async for line in lines:
                event = json.loads(line)
                turn = event.get("turn", turn)
                tokens += event["type"] == "token"
                if tokens == 3:
                    break
        return turn

    answer = conversations.turn_of(database, asyncio.run(leave()))["answers"][0]
    assert answer["reason"] == "stopped"
    assert len(answer["tokens"]) >= 3


def test_what_is_refused_is_refused_before_anything_is_kept(talking: Talking, database: Database) -> None:
    conversation(talking, database, "tiny")
    with pytest.raises(ConfigError, match="write something first") as empty:
        asyncio.run(read(talking, {"conversation": "c", "prompt": " \n"}))
    assert empty.value.field == "prompt"
    with pytest.raises(Exception, match="no turn t-9"):
        asyncio.run(read(talking, {"conversation": "c", "prompt": "x", "parent": "t-9"}))
    with pytest.raises(Exception, match="no conversation d"):
        asyncio.run(read(talking, {"conversation": "d", "prompt": "x"}))
    assert conversations.tree(database, "c") == []


def test_an_engine_that_stops_ends_it_at_once(talking: Talking) -> None:
    async def stop() -> list[dict[str, Any]]:
        events = []
        async for line in await talking.generate(body(3_000), OWNER):
            events.append(json.loads(line))
            if events[-1]["type"] == "token":
                talking.close()
        return events

    events = asyncio.run(stop())
    assert "stopped" in events[-1]["error"]["message"]
    assert StateError(events[-1]["error"]["message"])
