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

from engine.playground.conversations import IDLE_SECONDS, ConversationService, MachineUse
from engine.playground.host import NICENESS_BESIDE_RUN
from engine.playground.host_process import HostProcess
from engine.server.local_launcher import LocalLauncher
from store.core.errors import ConfigError, StateError
from store.core.home import Home
from store.core.rights import OWNER
from store.db.database import Database
from store.jobs import job_queue
from store.playground import conversations
from store.runs import runs
from store.training.train_config import TrainConfig
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
def talking(home: Home, launcher: LocalLauncher, database: Database) -> Iterator[ConversationService]:
    at_work = ConversationService(database, launcher, home, ["cpu"], Clock())
    yield at_work
    at_work.close()


def clock_of(talking: ConversationService) -> Clock:
    return talking._clock  # type: ignore[return-value]


def order(most: int = 8, **fields: Any) -> Any:
    asked = choice("tiny", sampling={"max_new_tokens": most, "temperature": 1.0, **fields})
    return {"do": "answer", "id": "", "model": asked.model_dump(), "label": "Tiny", "messages": ASKED}


def body(most: int = 8, *names: str, **fields: Any) -> dict[str, Any]:
    models = [order(most, **fields)["model"] | {"model": name} for name in names or ("tiny",)]
    return {"models": models, "messages": ASKED}


async def read(talking: ConversationService, asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in await talking.generate(asked, OWNER)]


async def gone(pid: int) -> None:
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"process {pid} lives on")


def kinds(events: list[dict[str, Any]], place: int = 0) -> list[str]:
    return [event["type"] for event in events if event.get("place") == place]


def test_two_answers_come_at_the_same_time_from_one_process(talking: ConversationService) -> None:
    async def ask() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        first = await read(talking, body(20, "tiny", "tiny"))
        pid = talking.models.pid
        second = await read(talking, body(3))
        assert talking.models.pid == pid
        assert talking.state().loaded == ["tiny"]
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


def test_stopping_stops_within_a_token(talking: ConversationService, home: Home) -> None:
    async def stop() -> tuple[int, Any]:
        stream = talking.models.stream_answer(order(3_000))
        async with contextlib.aclosing(stream):
            async for event in stream:
                if event["type"] == "token":
                    break
        began = time.perf_counter()
        after = [event async for event in talking.models.stream_answer(order(1))]
        assert after[-1]["type"] == "end"
        return time.perf_counter() - began, psutil.Process(talking.models.pid).cpu_times()

    seconds, _ = asyncio.run(stop())
    assert seconds < 1.0  # three thousand tokens take many times that


def test_a_reader_that_lags_behind_is_waited_for(talking: ConversationService) -> None:
    async def lag() -> int:
        stream = talking.models.stream_answer(order(1_000))
        async with contextlib.aclosing(stream):
            async for event in stream:
                if event["type"] == "token":
                    break
            await asyncio.sleep(1.0)
            alive = talking.models._connected
            assert alive is not None
            return max(events.qsize() for events in alive.answers.values())

    assert 32 < asyncio.run(lag()) <= 64


def test_a_killed_process_is_said_to_be_and_the_next_question_starts_another(
    talking: ConversationService,
) -> None:
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
        process = HostProcess(launcher, home, "cpu")
        async for _ in process.stream_answer(order(1)):
            pass
        assert process._connected is not None
        process._connected.writer.close()  # as the system does for an engine that was killed
        pid = process.pid or 0
        await gone(pid)
        return pid

    assert asyncio.run(leave())


def test_it_is_put_away_when_nobody_talks(talking: ConversationService) -> None:
    async def wait() -> tuple[int | None, int | None]:
        await read(talking, body(2))
        pid = talking.models.pid or 0
        assert (talking.models.measure_memory() or 0) > 2**20
        talking.step(NOW + IDLE_SECONDS - 1)
        before = talking.models.pid
        talking.step(NOW + IDLE_SECONDS)
        await gone(pid)
        await asyncio.sleep(0.2)
        return before, talking.models.pid

    before, after = asyncio.run(wait())
    assert before
    assert after is None


def queue_run(database: Database, home: Home, most_gib: float | None = None) -> None:
    """A run that is ready; most_gib: what it says it will take."""
    with database.transaction() as tx:
        job_queue.insert(tx, job_queue.NewJob("run-1", "train", "My run", {}, NOW))
        config = TrainConfig.parse({"model": "tiny", "dataset": "rows", "name": "My run"})
        runs.insert(tx, runs.NewRun("run-1", config, "d-1", "rows", None, NOW))
        if most_gib is not None:
            facts = json.dumps({"estimated_memory_high_gib": most_gib})
            tx.execute("UPDATE run SET facts = ? WHERE run_id = 'run-1'", [facts])


def niceness(talking: ConversationService) -> set[int]:
    """Of the threads of the models' process."""
    pid = talking.models.pid or 0
    return {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in psutil.Process(pid).threads()}


@pytest.mark.parametrize("most_gib", [None, 1e6])
def test_it_gives_way_to_a_run_of_unknown_or_large_needs_and_whoever_waits_is_told_for_how_long(
    talking: ConversationService, database: Database, home: Home, most_gib: float | None
) -> None:
    async def train_meanwhile() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        events: list[dict[str, Any]] = []
        async for line in await talking.generate(body(3_000), OWNER):
            events.append(json.loads(line))
            if events[-1]["type"] == "token" and talking.models.pid and not job_queue.queue(database):
                queue_run(database, home, most_gib)
                talking.step()
        with database.transaction() as tx:
            tx.execute("UPDATE job SET eta_seconds = 90")
        state = talking.state()
        assert (state.machine_has, state.beside, state.seconds_left) == ("My run", False, 90)
        waiting: list[dict[str, Any]] = []
        async for line in await talking.generate(body(3), OWNER):
            waiting.append(json.loads(line))
            if waiting[-1]["type"] == "waiting":
                assert talking.models.pid is None
                with database.transaction() as tx:
                    job_queue.finish(tx, "run-1", "cancelled", NOW)
        return events, waiting

    events, waiting = asyncio.run(train_meanwhile())
    assert events[-1]["type"] == "failed"
    assert "“My run” is running" in events[-1]["error"]["message"]
    assert waiting[0] == {"type": "waiting", "place": 0, "title": "My run", "seconds_left": 90}
    assert waiting[-1]["type"] == "end"


def test_who_waits_can_stop_waiting(talking: ConversationService, database: Database, home: Home) -> None:
    queue_run(database, home)
    conversation(talking, database, "tiny")

    async def wait() -> list[dict[str, Any]]:
        seen = []
        async for line in await talking.generate({"conversation": "c", "prompt": "Hello"}, OWNER):
            seen.append(json.loads(line))
            if seen[-1]["type"] == "waiting":
                await talking.stop({"turn": seen[0]["turn"]})
        return seen

    assert [event["type"] for event in asyncio.run(wait())] == ["turn", "waiting", "end"]


def test_models_answer_behind_a_run_that_leaves_them_memory(
    talking: ConversationService, database: Database, home: Home
) -> None:
    async def talk() -> tuple[set[int], set[int], int, int]:
        await read(talking, body(2))
        before, first = niceness(talking), talking.models.pid or 0
        queue_run(database, home, most_gib=0.001)
        with database.transaction() as tx:
            job_queue.claim(tx, "run-1", "cpu", NOW)
        talking.step()
        events = await read(talking, body(20))
        assert kinds(events)[-1] == "end"
        assert "waiting" not in kinds(events)
        assert talking.state().beside
        assert talking.models.pid == first
        behind = niceness(talking)
        with database.transaction() as tx:
            job_queue.finish(tx, "run-1", "finished", NOW)
        talking.step()  # only root could give it the whole machine again
        await gone(first)
        assert kinds(await read(talking, body(2)))[-1] == "end"
        return before, behind, first, talking.models.pid or 0

    before, behind, first, second = asyncio.run(talk())
    assert before == {os.getpriority(os.PRIO_PROCESS, 0)}
    assert behind == {NICENESS_BESIDE_RUN}
    assert second not in (0, first)


def test_a_model_too_large_for_what_a_run_leaves_waits_for_its_end(
    talking: ConversationService, database: Database, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def little(*_: object) -> MachineUse | None:
        active = job_queue.with_status(database, ["training"])
        return MachineUse("run-1", "My run", None, 2**10) if active else None

    monkeypatch.setattr("engine.playground.conversations.find_machine_use", little)
    queue_run(database, home)
    with database.transaction() as tx:
        job_queue.claim(tx, "run-1", "cpu", NOW)
        tx.execute("UPDATE job SET status = 'training'")

    async def talk() -> list[dict[str, Any]]:
        seen = []
        async for line in await talking.generate(body(2), OWNER):
            seen.append(json.loads(line))
            if seen[-1]["type"] == "waiting":
                with database.transaction() as tx:
                    job_queue.finish(tx, "run-1", "finished", NOW)
        return seen

    seen = kinds(asyncio.run(talk()))
    assert "waiting" in seen
    assert seen[-1] == "end"


def test_a_run_that_waits_for_its_data_leaves_the_machine(
    talking: ConversationService, database: Database
) -> None:
    with database.transaction() as tx:
        job_queue.insert(tx, job_queue.NewJob("data", "import", "Data", {}, NOW))
        job_queue.insert(tx, job_queue.NewJob("run-1", "train", "My run", {}, NOW, after_jobs=["data"]))
    assert talking.state().machine_has is None
    with database.transaction() as tx:
        job_queue.claim(tx, "data", "cpu", NOW)
        job_queue.finish(tx, "data", "finished", NOW, result={})
    assert talking.state().machine_has == "My run"
    two = ConversationService(database, talking.models._launcher, talking.models._home, ["cuda:0", "cuda:1"])
    assert two.state().machine_has is None  # the other one is free


def conversation(
    talking: ConversationService, database: Database, *names: str, most: int = 12, **fields: Any
) -> str:
    settings: Any = {"system": "", "models": body(most, *names, **fields)["models"]}
    with database.transaction() as tx:
        conversations.create_conversation(tx, "c", "", settings, "you", job_queue.to_utc(NOW))
    return "c"


def test_a_turn_is_kept_with_its_answers_and_the_next_one_goes_on_from_it(
    talking: ConversationService, database: Database
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
    assert [answer.reason for answer in kept.answers] == ["length", "failed"]
    text = "".join(e["text"] for e in events if e["type"] == "token")
    assert kept.answers[0].text == text
    assert len(kept.answers[0].tokens) >= 12
    assert "gone" in kept.answers[1].error["message"]  # type: ignore[index]
    places = conversations.tree(database, "c")
    assert [place.parent_id for place in places] == [None, turn]
    turns = conversations.path(database, "c", places[1].turn_id)
    tiny = conversations.get_speaker(turns[0], turns[0].answers[0])
    asked, left_out = conversations.build_messages(turns[:1], tiny, "Be kind.")
    assert [message["content"] for message in asked] == ["Be kind.", "Hello", text]
    assert left_out == 0
    assert conversations.get_conversation(database, "c").title == "Hello"


def test_one_model_talks_twice_with_sampling_of_its_own(
    talking: ConversationService, database: Database
) -> None:
    """Each is told by its sampling, and goes on from what it said itself."""
    (model,) = body(12, "tiny", temperature=0.0)["models"]
    warm = {**model, "sampling": {**model["sampling"], "temperature": 2.0, "seed": 7}}
    with database.transaction() as tx:
        settings: Any = {"system": "", "models": [model, warm], "sampling": model["sampling"]}
        conversations.create_conversation(tx, "c", "", settings, "you", job_queue.to_utc(NOW))
    events = asyncio.run(read(talking, {"conversation": "c", "prompt": "Hello"}))
    (turn,) = conversations.path(database, "c", events[0]["turn"])
    cold_answer, warm_answer = turn.answers
    assert [answer.label for answer in turn.answers] == ["tiny", "tiny · temperature 2 · seed 7"]
    assert cold_answer.text != warm_answer.text
    for answer in turn.answers:
        asked, _ = conversations.build_messages([turn], conversations.get_speaker(turn, answer), "")
        assert asked[1]["content"] == answer.text


async def leave_after(talking: ConversationService, asked: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """Read so many tokens, and hang up."""
    seen: list[dict[str, Any]] = []
    async with contextlib.aclosing(await talking.generate(asked, OWNER)) as lines:
        async for line in lines:
            seen.append(json.loads(line))
            if sum(event["type"] == "token" for event in seen) >= most:
                break
    return seen


def without_alive(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the signs of life."""
    return [event for event in events if event["type"] != "alive"]


def test_a_turn_goes_on_while_nobody_reads_and_whoever_comes_back_reads_all_of_it(
    talking: ConversationService, database: Database
) -> None:
    conversation(talking, database, "tiny", "tiny", most=300)

    async def leave() -> tuple[str, list[list[dict[str, Any]]], list[dict[str, Any]]]:
        first = await leave_after(talking, {"conversation": "c", "prompt": "Hello"}, 2)
        turn = first[0]["turn"]
        assert talking.state().answering == [turn]
        again = [await leave_after(talking, {"follow": turn}, 2 + place) for place in range(20)]
        events, others = await asyncio.gather(*(read(talking, {"follow": turn}) for _ in range(2)))
        assert without_alive(events) == without_alive(others)
        return turn, again, without_alive(events)

    turn, again, whole = asyncio.run(leave())
    for seen in again:
        assert without_alive(seen) == whole[: len(without_alive(seen))]
    kept = conversations.turn_of(database, turn).answers
    assert len(kept) == 2
    for answer in kept:
        assert answer.reason in ("end", "length")
        tokens = [e for e in whole if e["type"] == "token" and e["place"] == answer.place]
        assert answer.text == "".join(event["text"] for event in tokens)
    assert talking.state().answering == []
    assert asyncio.run(read(talking, {"follow": turn})) == []
    with pytest.raises(Exception, match="no turn t-9"):
        asyncio.run(read(talking, {"follow": "t-9"}))


def test_anybody_who_reads_along_can_stop_a_turn(talking: ConversationService, database: Database) -> None:
    conversation(talking, database, "tiny", most=3_000)

    async def stop() -> tuple[str, list[dict[str, Any]]]:
        turn = (await leave_after(talking, {"conversation": "c", "prompt": "Hello"}, 3))[0]["turn"]
        reading = asyncio.create_task(read(talking, {"follow": turn}))
        await asyncio.sleep(0)
        await talking.stop({"turn": turn})
        events = await asyncio.wait_for(reading, 20)
        await talking.stop({"turn": turn})  # which is over
        return turn, events

    turn, events = asyncio.run(stop())
    assert events[-1] == {"type": "end", "place": 0, "reason": "stopped"}
    (answer,) = conversations.turn_of(database, turn).answers
    assert answer.reason == "stopped"
    assert 3 <= len(answer.tokens) < 3_000


def test_a_killed_process_leaves_what_had_come_though_nobody_reads(
    talking: ConversationService, database: Database
) -> None:
    conversation(talking, database, "tiny", most=3_000)

    async def kill() -> str:
        turn = (await leave_after(talking, {"conversation": "c", "prompt": "Hello"}, 3))[0]["turn"]
        os.kill(talking.models.pid or 0, signal.SIGKILL)
        while talking.state().answering:
            await asyncio.sleep(0.05)
        return str(turn)

    (answer,) = conversations.turn_of(database, asyncio.run(kill())).answers
    assert answer.reason == "failed"
    assert len(answer.tokens) >= 3


def test_what_has_come_is_stored_before_its_end(
    talking: ConversationService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.playground.host_process.KEEP_SECONDS", 0.05)
    conversation(talking, database, "tiny", most=3_000)

    async def look() -> int:
        turn = (await leave_after(talking, {"conversation": "c", "prompt": "Hello"}, 3))[0]["turn"]
        while not (kept := conversations.turn_of(database, turn).answers) or not kept[0].tokens:
            await asyncio.sleep(0.02)
        assert talking.state().answering == [turn]
        await talking.stop({"turn": turn})
        return len(kept[0].tokens)

    assert asyncio.run(asyncio.wait_for(look(), 60)) > 0


def test_what_is_refused_is_refused_before_anything_is_kept(
    talking: ConversationService, database: Database
) -> None:
    conversation(talking, database, "tiny")
    with pytest.raises(ConfigError, match="write something first") as empty:
        asyncio.run(read(talking, {"conversation": "c", "prompt": " \n"}))
    assert empty.value.field == "prompt"
    with pytest.raises(Exception, match="no turn t-9"):
        asyncio.run(read(talking, {"conversation": "c", "prompt": "x", "parent": "t-9"}))
    with pytest.raises(Exception, match="no conversation d"):
        asyncio.run(read(talking, {"conversation": "d", "prompt": "x"}))
    assert conversations.tree(database, "c") == []


def test_an_engine_that_stops_ends_it_at_once(talking: ConversationService) -> None:
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
