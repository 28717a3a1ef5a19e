"""Conversations in the store: branches, what a model is asked next, and what becomes of kept rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.commands import Commands
from store.core.errors import ConfigError, NotFoundError, StateError, TunebenchError
from store.core.home import Home
from store.core.rights import OWNER
from store.data import datasets
from store.db.database import Database
from store.jobs import job_queue
from store.playground import conversations
from store.playground.schemas import RatableTurns, TurnAnswer
from tests.unit.store_samples import new_dataset

NOW = 1_700_000_000.0
A, B = {"model": "a"}, {"model": "b"}


@pytest.fixture
def store(home: Home) -> Iterator[Database]:
    opened = Database(home.database, [home.datasets, home.jobs])
    yield opened
    opened.close()


@pytest.fixture
def act(store: Database, home: Home) -> Any:
    times = iter(NOW + number for number in range(1000))

    def no_ask(name: str, body: Any) -> Any:
        raise AssertionError(name)

    commands = Commands(store, home, no_ask, clock=lambda: next(times)).table()
    return lambda command, /, **body: commands[command](body, OWNER)


def say_turn(store: Database, turn: str, parent: str, prompt: str, *answers: tuple[Any, str, str]) -> None:
    """A turn of the conversation "c"; each answer is (model, text, reason)."""
    with store.transaction() as tx:
        if not tx.query("SELECT 1 FROM conversation").num_rows:
            settings: Any = {"system": "Be kind.", "models": [A, B]}
            conversations.create_conversation(tx, "c", "", settings, "you", job_queue.to_utc(NOW))
        held = conversations.get_conversation(tx, "c")
        count = len(conversations.tree(tx, "c"))
        conversations.add_turn(tx, turn, held, (parent, prompt), "you", job_queue.to_utc(NOW + count))
        for place, (model, text, reason) in enumerate(answers):
            ending: Any = reason
            given = TurnAnswer(
                turn_id=turn, place=place, label=model["model"], model=model, text=text, tokens=[],
                reason=ending, figures=None, error=None,
            )  # fmt: skip
            conversations.save_answer(tx, given, job_queue.to_utc(NOW))


def talker(model: Any, place: int = 0, temperature: float = 0.0) -> conversations.Speaker:
    return conversations.Speaker(model, {"temperature": temperature}, place)


def add_dataset(store: Database, name: str, kind: str) -> None:
    row = new_dataset(f"data-{name}", name, kind=kind, row_count=99, created_at=job_queue.to_utc(NOW))
    with store.transaction() as tx:
        datasets.insert_dataset(tx, row)


def test_each_model_goes_on_from_what_it_said_itself(store: Database) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"), (B, "b1", "stopped"))
    say_turn(store, "t2", "t1", "Two?", (A, "a2", "end"), (B, "", "failed"))
    say_turn(store, "t3", "t2", "Three?", (A, "", "failed"), (B, "", "failed"))
    turns = conversations.path(store, "c", "t3")
    contents = {
        name: [m["content"] for m in conversations.build_messages(turns, talker({"model": name}), "")[0]]
        for name in ("a", "b", "new")
    }
    assert contents["a"] == ["One?", "a1", "Two?", "a2"]
    assert contents["b"] == ["One?", "b1", "Two?", "a2"]  # it failed: what the first one said stands
    assert contents["new"] == ["One?", "a1", "Two?", "a2"]
    assert conversations.build_messages(turns, talker(A), "Be kind.")[1] == 1
    assert conversations.build_messages(turns, talker(A), "Be kind.")[0][0] == {
        "role": "system",
        "content": "Be kind.",
    }


def test_a_model_that_talks_twice_goes_on_from_its_own_words(store: Database) -> None:
    own: Any = {"system": "", "models": [{**A, "sampling": {"temperature": heat}} for heat in (0.0, 0.8)]}
    with store.transaction() as tx:
        conversations.create_conversation(tx, "c", "", own, "you", job_queue.to_utc(NOW))
    say_turn(store, "t1", "", "One?", (A, "cold", "end"), (A, "warm", "end"))
    turns = conversations.path(store, "c", "t1")

    def its_words(*args: Any) -> str:
        return conversations.build_messages(turns, talker(A, *args), "")[0][-1]["content"]

    assert (its_words(0, 0.0), its_words(1, 0.8)) == ("cold", "warm")
    assert (its_words(1, 0.0), its_words(0, 0.8)) == ("cold", "warm")  # the order changed
    assert (its_words(0, 0.5), its_words(1, 0.5)) == ("cold", "warm")  # what is common changed
    assert conversations.build_messages(turns, talker(B, 1, 0.8), "")[0][-1]["content"] == "cold"


def test_a_branch_leaves_the_other_one_as_it_is(store: Database) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"))
    say_turn(store, "t2", "t1", "Two?", (A, "a2", "end"))
    say_turn(store, "t3", "t1", "Other?", (A, "a3", "end"))
    assert [turn.turn_id for turn in conversations.path(store, "c", "t2")] == ["t1", "t2"]
    assert [turn.turn_id for turn in conversations.path(store, "c", "t3")] == ["t1", "t3"]
    assert conversations.path(store, "c", "") == []
    with pytest.raises(NotFoundError, match="no turn t9"):
        conversations.path(store, "c", "t9")
    (line,) = conversations.conversations(store)
    assert (line.title, line.turns) == ("One?", 3)


def test_answers_to_rate_are_answers_to_the_same_question(store: Database) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"), (B, "b1", "length"))
    say_turn(store, "t2", "t1", "Two?", (A, "a2", "end"), (B, "b2", "end"))  # they had said different things
    say_turn(store, "t3", "", "Other?", (A, "same", "end"), (B, "same", "end"))  # another branch
    say_turn(store, "t4", "t3", "And?", (A, "a4", "end"), (B, "b4", "end"))
    say_turn(store, "t5", "", "Broken?", (A, "a5", "end"), (B, "", "failed"))
    say_turn(store, "t6", "", "Cut?", (A, "a6", "stopped"), (B, "b6", "end"))
    say_turn(store, "t7", "", "Alone?", (A, "a7", "end"))
    system = {"role": "system", "content": "Be kind."}
    assert conversations.answers_to_rate(store, "c") == RatableTurns(
        lines=[
            {"messages": [system, {"role": "user", "content": "One?"}], "answers": {"a": "a1", "b": "b1"}},
            {
                "messages": [system, {"role": "user", "content": "Other?"}],
                "answers": {"a": "same", "b": "same"},
            },
            {
                "messages": [
                    system,
                    {"role": "user", "content": "Other?"},
                    {"role": "assistant", "content": "same"},
                    {"role": "user", "content": "And?"},
                ],
                "answers": {"a": "a4", "b": "b4"},
            },
        ],
        models={"a": A, "b": B},
        failed=2,
        asked_otherwise=1,
        other_models=1,
    )
    others = conversations.answers_to_rate(store, "c", {"a": A, "b": {"model": "another of that name"}})
    assert (others.lines, others.other_models) == ([], 7)
    assert conversations.answers_to_rate(store, "nowhere").lines == []
    (line,) = conversations.answered_by(store, ["b", "a"], "you")
    assert (line.conversation_id, line.turns) == ("c", 7)
    assert conversations.answered_by(store, ["b", "z"], "you") == []
    assert conversations.answered_by(store, ["b"], "somebody else") == []


def test_one_model_alone_is_nothing_to_rate(store: Database) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"))
    ratable = conversations.answers_to_rate(store, "c")
    assert (ratable.lines, ratable.other_models) == ([], 1)


def test_commands_begin_change_and_delete(store: Database, act: Any) -> None:
    own = act("begin_conversation", models=[A], system="")["conversation_id"]
    act("edit_conversation", conversation=own, title="Mine")
    act("edit_conversation", conversation=own, settings={"system": "x", "models": [B]})
    held = conversations.get_conversation(store, own)
    assert (held.title, held.settings["system"], held.made_by) == ("Mine", "x", "you")
    act("delete_conversation", conversation=own)
    with pytest.raises(NotFoundError, match="may have been deleted"):
        act("delete_conversation", conversation=own)


def test_an_answer_that_comes_after_its_conversation_was_deleted_harms_nobody(
    store: Database, act: Any
) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"))
    act("delete_conversation", conversation="c")
    with store.transaction() as tx:
        late = TurnAnswer(
            turn_id="t1", place=0, label="a", model=A, text="late", tokens=[], reason="end",
            figures=None, error=None,
        )  # fmt: skip
        conversations.save_answer(tx, late, job_queue.to_utc(NOW))
    assert not store.query("SELECT 1 FROM turn_answer").num_rows


def test_a_kept_answer_has_all_before_it_and_becomes_a_row(store: Database, act: Any, home: Home) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"))
    say_turn(store, "t2", "t1", "Two?", (A, "a2", "end"))
    act("keep_answer", turn="t2", place=0, kind="training", answer="Better.\n")
    act("keep_answer", turn="t1", place=0, kind="test", answer="a1")
    test, training = conversations.kept_rows(store)
    assert [m["content"] for m in training.messages] == ["Be kind.", "One?", "a1", "Two?", "Better.\n"]
    assert (training.corrected, test.corrected) == (True, False)
    job_id = act("use_kept_rows", kind="training", name="Corrections")["job_id"]
    job = job_queue.get_job(store, job_id)
    (line,) = (home.uploads / job.config["source"]["upload"]).read_text().splitlines()
    row = json.loads(line)
    assert row["messages"] == training.messages
    assert (row["part"], row["turn"], row["kept_by"]) == ("train", "t2", "you")
    assert {row.kind: row.dataset_name for row in conversations.kept_rows(store)} == {
        "training": "Corrections",
        "test": None,
    }
    with pytest.raises(StateError, match="No training row waits"):
        act("use_kept_rows", kind="training", name="Again")
    with pytest.raises(StateError, match="in the data set"):
        act("forget_kept_row", kept=training.kept_id)
    with store.transaction() as tx:
        job_queue.finish(tx, job_id, "cancelled", NOW)
    assert conversations.kept_rows(store)[1].dataset_name is None  # it waits again
    act("forget_kept_row", kept=training.kept_id)


@pytest.mark.parametrize(
    ("body", "error", "why"),
    [
        (
            {"turn": "t1", "place": 0, "kind": "training", "answer": " "},
            ConfigError,
            "write the correct answer",
        ),
        ({"turn": "t1", "place": 3, "kind": "training", "answer": "x"}, NotFoundError, "at place 3"),
        ({"turn": "t9", "place": 0, "kind": "training", "answer": "x"}, NotFoundError, "no turn t9"),
        ({"turn": "t1", "place": 0, "kind": "gold", "answer": "x"}, ConfigError, "kind is 'gold'"),
    ],
)
def test_what_can_not_be_kept_says_why(
    store: Database, act: Any, body: dict[str, Any], error: type[TunebenchError], why: str
) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"))
    with pytest.raises(error, match=why):
        act("keep_answer", **body)


def test_kept_rows_extend_a_data_set_by_a_version_that_waits_for_their_import(
    store: Database, act: Any
) -> None:
    say_turn(store, "t1", "", "One?", (A, "a1", "end"))
    act("keep_answer", turn="t1", place=0, kind="training", answer="Better.")
    add_dataset(store, "Old", "chat")
    add_dataset(store, "Pairs", "preference")
    act("keep_answer", turn="t1", place=0, kind="test", answer="Better.")
    for dataset, kind, why in (
        ("Pairs", "training", "kind preference"),
        ("Old", "test", "might be trained on"),
    ):
        with pytest.raises(ConfigError, match=why):
            act("use_kept_rows", kind=kind, dataset=dataset)
    version = job_queue.get_job(store, act("use_kept_rows", kind="training", dataset="Old")["job_id"])
    (step,) = version.config["recipe"]["steps"]
    (before,) = version.after_jobs
    imported = job_queue.get_job(store, before)
    assert (version.kind, version.config["name"]) == ("clean", "Old v2")
    assert step["dataset"] == imported.config["name"] == "Rows saved for Old v2"
    assert round(step["share"] * 99 / (1 - step["share"])) == 1
