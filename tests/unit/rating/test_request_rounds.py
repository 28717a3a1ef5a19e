"""Rounds of logged requests: what is asked, what is left out, and what they become."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bench.made.monitored import add_endpoint
from engine.monitoring.label_candidates import CandidateSet, LabelCandidate
from engine.monitoring.labelling_text import (
    ANSWER_KNOWN,
    NO_TEXT,
    ONE_ANSWER,
    REPEATED_REQUEST,
    SAME_ANSWER,
)
from engine.rating.data_commands import list_labels
from store.core.errors import ConfigError, NotFoundError, StateError
from store.data import datasets
from store.jobs import job_queue
from store.monitoring import log_ingest
from store.monitoring.log_ingest import LogBatch
from store.rating import rounds
from tests.unit.rating.round_desk import RoundDesk, person
from tests.unit.rating.test_round_data import rated
from tests.unit.store_samples import serving
from tunebench.cli import cli
from tunebench.terminal.output import NOT_FOUND

BOB, CLEO = person("Bob", "rater"), person("Cleo", "rater")
START = 1_800_000_000.0
ENDPOINT = "endpoint-1"


def line(number: int, text: str | None, **changed: Any) -> dict[str, Any]:
    """A request to a classifier; `text` None: not kept."""
    return {
        **{"request_id": f"chatcmpl-{number}", "endpoint_id": ENDPOINT, "at": START + number},
        **{"kind": "labels", "model": "m", "version": "intents@1", "role": "live", "person_id": None},
        **{"user": None, "status": 200, "error": None, "prompt_tokens": 3, "completion_tokens": 1},
        **{"first_token_seconds": None, "seconds": 0.1, "finish_reason": "stop", "mean_logprob": None},
        **{"label": "card", "confidence": 0.5 + number / 1_000, "abstained": False, "input_characters": 9},
        **{"output_characters": 4, "output": "card", "redacted": 0, "group": None},
        "messages": None if text is None else [{"role": "user", "content": text}],
    } | changed


class LoggedDesk(RoundDesk):
    """With the log of an endpoint, which the test writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.database.transaction() as tx:
            add_endpoint(tx, ENDPOINT, "Bank <b>desk</b>")
        self.read = {"requests": 0, "feedback": 0}

    def log(self, lines: list[dict[str, Any]], series: Any = "requests") -> None:
        before = self.read[series]
        batch = LogBatch(ENDPOINT, series, f"{series}-000000.jsonl", lines, before, before + len(lines))
        assert log_ingest.ingest_batch(self.database, batch, job_queue.to_utc(START)) == len(lines)
        self.read[series] += len(lines)

    def ask(self, **body: Any) -> Any:
        """Make the round and do its job."""
        asked: dict[str, Any] = {"name": "What to label", "endpoint": "Bank <b>desk</b>", "items": 20} | body
        made = self("round_of_requests", **asked)
        self.do(made["round_id"])
        return made


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[LoggedDesk]:
    desk = LoggedDesk(tmp_path)
    yield desk
    desk.database.close()


def texts(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Requests of different words, of which a later one is surer."""
    words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet"]
    return [
        line(n, f"{words[n % 10]} of {words[n // 10 % 10]} {n}, where is it?",
             label="card" if n % 3 else "loan", output="card" if n % 3 else "loan")
        for n in range(first, first + count)
    ]  # fmt: skip


def test_what_was_served_is_asked_about_and_nothing_twice(desk: LoggedDesk) -> None:
    asked = texts(40)
    again = [line(100 + n, asked[0]["messages"][0]["content"]) for n in range(3)]
    unkept = [line(200 + n, None, output=None) for n in range(5)]
    failed = [line(300, "never answered", status=502, output=None, label=None)]
    desk.log([*asked, *again, *unkept, *failed])
    word = {"kind": "label", "value": None, "text": "loan", "comment": "", "person_id": None}
    labelled = [
        {**word, "feedback_id": f"f{n}", "request_id": f"chatcmpl-{n}", "endpoint_id": ENDPOINT, "at": START}
        for n in (7, 8)
    ]
    desk.log(labelled, "feedback")
    made = desk.ask(items=20, random_share=0.3, start="2027-01-01T00:00:00Z")
    assert made["left_out"] == {
        NO_TEXT: 5,
        REPEATED_REQUEST: 3,
        ANSWER_KNOWN: 2,
    }
    assert (made["items"], made["random"]) == (20, 6)
    round = rounds.get(desk.database, made["round_id"])
    assert (round.protocol, round.item_count, round.config["labels"]) == (
        "label", 20, ["card", "loan"],
    )  # fmt: skip
    assert [system.name for system in round.systems] == ["intents@1"]
    assert round.details.notices[0] == "6 of 40 different requests drawn at random."
    links = rounds.requests_of_round(desk.database, made["round_id"])
    by_item = {link.item_id: link for link in reversed(links)}  # the request that came first
    assert len(by_item) == 20
    assert {(link.random, link.probability) for link in links} == {(True, 6 / 40), (False, None)}
    items = rounds.items(desk.database, made["round_id"])
    for item in items:
        n = int(by_item[item.item_id].request_id.rpartition("-")[2])
        assert item.answers == ["card" if n % 3 else "loan"]
        assert item.weight == pytest.approx(40 / 6 if by_item[item.item_id].random else 1)
    chosen = {int(each.request_id.rpartition("-")[2]) for each in by_item.values() if not each.random}
    assert sum(chosen) / len(chosen) < 16  # the least sure ones come first
    assert not {7, 8} & chosen


def test_of_everything_that_there_is_nothing_was_chosen(desk: LoggedDesk) -> None:
    desk.log(texts(12))
    made = desk.ask(items=50)
    assert (made["items"], made["random"]) == (12, 12)
    links = rounds.requests_of_round(desk.database, made["round_id"])
    assert {link.probability for link in links} == {1.0}
    with pytest.raises(StateError, match="None of 12 requests can be rated: already in a rating round"):
        desk.ask()
    desk("close_round", round=made["round_id"])
    assert desk.ask()["items"] == 12  # nobody has answered it


def test_labels_of_two_people_become_rows(desk: LoggedDesk) -> None:
    desk.log(texts(12))
    round_id = desk.ask(items=12, overlap=2, repeat_share=0.2, name="Twelve")["round_id"]

    def label(task: dict[str, Any], of: str = "loan") -> dict[str, Any]:
        assert task["answers"] == []  # blind
        text = task["prompt"][0]["content"]
        return {"label": None, "note": "spam"} if text.startswith("alpha") else {"label": of, "note": ""}

    rated(desk, round_id, label, BOB)

    def label_of_cleo(task: dict[str, Any]) -> dict[str, Any]:
        return label(task, "card" if task["prompt"][0]["content"].startswith("bravo") else "loan")

    rated(desk, round_id, label_of_cleo, CLEO)
    line_of_round = rounds.line(desk.database, round_id)
    assert line_of_round.wanted == line_of_round.rated - line_of_round.extra == 24
    assert line_of_round.extra > 0  # repeats
    made = desk("rows_from_round", round=round_id)
    assert made["left_out"] == {"none of the labels fits": 2, "too little agreement": 2}
    assert (made["dataset"], made["rows"]) == ("Twelve, labels", 8)
    desk.do(made["job_id"])
    dataset = datasets.get_dataset(desk.database, made["dataset"])
    assert (dataset.format, dataset.source["round"]) == ("text_label", round_id)
    rows = pq.read_table(dataset.rows_path).to_pylist()
    assert {row["label"] for row in rows} == {"loan"}
    assert all("where is it?" in row["text"] for row in rows)


@pytest.mark.parametrize(
    ("answer", "field"),
    [({"label": "other"}, "answer.label"), ({}, "answer.label"), ({"label": None, "note": 5}, "answer.note")],
)
def test_a_label_is_one_of_the_rounds(desk: LoggedDesk, answer: dict[str, Any], field: str) -> None:
    desk.log(texts(5))
    round_id = desk.ask()["round_id"]
    task = desk("next_rating_tasks", BOB, round=round_id)["tasks"][0]
    with pytest.raises(ConfigError) as refused:
        desk("rate", BOB, round=round_id, task=task["task_id"], answer=answer)
    assert refused.value.field == field


def test_labels_are_those_that_were_served_without_the_space_around_them(desk: LoggedDesk) -> None:
    served = ("card\n", "card", " transfer", "\n", None)
    rows = [{"version": "a model", "label": label} for label in served]
    looked = CandidateSet([LabelCandidate([], [], rows)], 5, Counter(), ["a model"], [])
    assert list_labels(desk.database, looked) == ["transfer", "card"]


def test_a_shadow_is_held_against_what_was_live(desk: LoggedDesk) -> None:
    def chatted(n: int, **changed: Any) -> dict[str, Any]:
        own = {"kind": "chat", "label": None, "confidence": None, "version": "chat@1"} | changed
        return line(n, f"Question {n} on subject {n * 7919}?", **own)

    live = [chatted(n, output=f"Answer {n}") for n in range(10)]
    shadow = [
        chatted(
            n,
            request_id=f"copy-{n}",
            copy_of=f"chatcmpl-{n}",
            version="chat@2",
            role="shadow",
            output="Answer 3" if n == 3 else f"Other {n}",
        )
        for n in range(8)
    ]
    desk.log([*live, *shadow])
    made = desk.ask(protocol="pairwise", choice="random", name="Two")
    assert made["left_out"] == {ONE_ANSWER: 2, SAME_ANSWER: 1}
    round = rounds.get(desk.database, made["round_id"])
    assert [system.name for system in round.systems] == ["chat@1", "chat@2"]
    items = rounds.items(desk.database, made["round_id"])
    assert len(items) == made["random"] == 7
    assert all(item.answers[1].startswith("Other") for item in items)
    corrected = desk.ask(protocol="correction", version="chat@2", name="Better", items=3, random_share=0)
    assert (corrected["items"], corrected["random"]) == (1, 0)  # the others are asked about already


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ({"endpoint": "nobody"}, NotFoundError, "does not exist"),
        ({"alert": "alert-x"}, NotFoundError, "does not exist"),
        ({"group": "nobody"}, StateError, "No requests were answered"),
        ({"labels": ["a"]}, ConfigError, "labels: give two or more"),
        ({"weights": {"uncertainty": 0, "drift": 0, "disagreement": 0}}, ConfigError, "must be above 0"),
        ({"name": "About intents 1"}, ConfigError, "contains intents@1"),
    ],
)
def test_what_can_not_be_asked_leaves_nothing(
    desk: LoggedDesk, body: dict[str, Any], error: type[Exception], says: str
) -> None:
    desk.log(texts(5))
    with pytest.raises(error, match=says):
        desk.ask(**body)
    assert not list(desk.home.jobs.glob("round-*"))


def test_a_round_of_several_versions_is_named_after_none(desk: LoggedDesk) -> None:
    desk.log(
        [*texts(5), *(line(50 + n, f"other {n}", version="cards@2", role="candidate") for n in range(5))]
    )
    with pytest.raises(ConfigError, match="contains cards@2"):
        desk.ask(name="About cards 2", labels=["card", "loan"])


def test_two_presses_make_one_round(desk: LoggedDesk) -> None:
    desk.log(texts(30))
    body: dict[str, Any] = {"name": "Once", "endpoint": ENDPOINT, "items": 5}
    desk("round_of_requests", **body)
    with pytest.raises(StateError, match="is still being created"):
        desk("round_of_requests", **body)


def test_a_round_outlives_the_log(desk: LoggedDesk) -> None:
    desk.log(texts(10))
    round_id = desk.ask()["round_id"]
    with desk.database.transaction() as tx:
        tx.execute("DELETE FROM request WHERE true", [])
    assert len(rounds.requests_of_round(desk.database, round_id)) == 10
    desk("delete", job=round_id)
    assert rounds.requests_of_round(desk.database, round_id) == []


def test_the_command_line_lists_them_and_makes_the_round(desk: LoggedDesk) -> None:
    desk.log(texts(12))
    runner = CliRunner(env={"TUNEBENCH_HOME": str(desk.home.path)})
    with serving(desk.home, desk.database, desk.commands):
        upcoming = json.loads(runner.invoke(cli, ["label-next", ENDPOINT, "--limit", "3", "--json"]).stdout)
        text = runner.invoke(cli, ["label-next", ENDPOINT])
        words = ["label-next", ENDPOINT, "--round", "By hand", "--items", "5", "--no-wait", "--json"]
        made = json.loads(runner.invoke(cli, words).stdout)
        nobody = runner.invoke(cli, ["label-next", "nobody"])
    assert upcoming["summary"] == "12 unique of 12 requests can be labeled."
    assert (len(upcoming["listed"]), upcoming["protocol"]) == (3, "label")
    assert upcoming["listed"][0]["reasons"] == ["50% confidence"]
    assert "where is it?" in text.stdout
    assert (made["items"], made["random"]) == (5, 2)
    assert nobody.exit_code == NOT_FOUND
