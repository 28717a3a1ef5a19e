"""Perplexity under the base: which answers are measured, what is said of the rest, and how it is watched."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from bench.made.monitored import Monitored
from bench.made.request_log import Traffic, append, request_lines
from engine.monitoring import base_model_losses, watch_job
from engine.monitoring.changes import measure_change
from engine.monitoring.drift import RequestValue, advance_test, start_test
from engine.monitoring.measured_requests import (
    ANSWER_IS_LABEL,
    NO_CHAT,
    NO_TEXT,
    NOT_TEXT,
    TOO_MANY_BASES,
    ScoredAnswers,
    ServedAnswer,
    measure_answers,
    read_logged_answers,
)
from engine.monitoring.text import describe_alarm, describe_cost, describe_look
from store.core.errors import ModelError, NotFoundError
from store.core.monitoring_schemas import ServedBase
from store.core.row_schemas import Message
from store.monitoring import monitor_alerts
from store.monitoring.config import EXPENSIVE, WATCHED_NAMES, MonitorSettings
from store.monitoring.traffic import format_category_name
from tests.unit.monitoring.test_monitoring import OWNER
from tests.unit.monitoring.texts import bank_questions
from tests.unit.store_samples import row_of


class StubBases:
    """Nats are a hundredth of the answer's length; a base named "gone" is not there, "broken" can't load."""

    def __init__(self, *_: object) -> None:
        self.asked: list[tuple[str, int]] = []

    def find(self, base: ServedBase) -> str:
        if base["why"] or base["model"] == "gone":
            raise NotFoundError(base["why"] or "The base is gone.")
        return base["model"].partition("@")[0]

    def score(self, key: str, conversations: Sequence[list[Message]]) -> ScoredAnswers:
        if key == "broken":
            raise ModelError("It can't be loaded.")
        self.asked.append((key, len(conversations)))
        nats: list[float | None] = [len(each[-1]["content"]) / 100 for each in conversations]
        return ScoredAnswers(nats, [], 1, 2.0, 0.5 * len(conversations))


def answers(version: str, count: int, first: int = 0) -> list[ServedAnswer]:
    turn: Message = {"role": "assistant", "content": "x" * 50}
    return [ServedAnswer(first + place, version, [turn]) for place in range(count)]


def base(model: str, why: str = "") -> ServedBase:
    return {"model": model, "run": "", "why": why}


def test_nobody_watches_it_who_does_not_ask_for_it() -> None:
    assert len(WATCHED_NAMES) == 9
    assert MonitorSettings().watched == list(WATCHED_NAMES)
    asked = MonitorSettings(watched=[EXPENSIVE, *WATCHED_NAMES])
    assert asked.watched == [*WATCHED_NAMES, EXPENSIVE]
    assert asked.document() == {"watched": [*WATCHED_NAMES, EXPENSIVE]}
    assert MonitorSettings().document() == {}


def test_answers_are_drawn_by_their_place_and_the_others_counted() -> None:
    models = StubBases()
    bases = {
        "a@1": base("a@1"),
        "a@2": base("a@2"),
        "b": base("b"),
        "c": base("c"),
        "d": base("", "nobody knows"),
    }
    rows = [*answers("a@1", 30), *answers("a@2", 10, 30), *answers("b", 25, 40), *answers("c", 5, 65)]
    rows += [*answers("d", 3, 70), ServedAnswer(80, "a@1", None, ANSWER_IS_LABEL)]
    measured = measure_answers(rows, bases, models, most=20)
    assert measured.look.measured == sum(value is not None for value in measured.nats) == 20
    assert measured.look.left_out == 45
    assert measured.look.reasons == {TOO_MANY_BASES: 5, "nobody knows": 3, ANSWER_IS_LABEL: 1}
    assert [key for key, _ in models.asked] == ["a", "b"]  # a base once, the one of most answers first
    assert measured.look.seconds == 0.5
    assert measure_answers(rows[::-1], bases, StubBases(), most=20).nats == measured.nats[::-1]
    assert "20 responses scored; 45 not sampled" in describe_look(measured.look)
    assert "nobody knows (3)" in describe_look(measured.look)
    assert "0.50 s per response, after 4.0 s of loading" in describe_cost(measured.look)
    assert "after the first check" in describe_cost(None)


def test_a_base_that_is_not_there_is_a_reason_and_no_value() -> None:
    bases = {"gone": base("gone"), "broken": base("broken")}
    measured = measure_answers([*answers("gone", 3), *answers("broken", 2, 3)], bases, StubBases())
    assert measured.nats == [None] * 5
    assert measured.look.reasons == {"The base is gone.": 3, "It can't be loaded.": 2}
    assert "The base is gone. To retry" in measured.why


def test_what_the_log_has_of_each_answer() -> None:
    asked = json.dumps([{"role": "user", "content": [{"type": "text", "text": "A?"}]}])
    picture = json.dumps([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    rows = [
        ("chat", None, asked, "Yes."), ("chat", None, None, None), ("labels", "card", asked, "card"),
        ("completion", None, asked, "B"), ("chat", None, picture, "A cat."),
    ]  # fmt: skip
    kinds, labels, messages, outputs = zip(*rows, strict=True)
    columns = {"kind": kinds, "label": labels, "messages": messages, "output": outputs}
    table = pa.table({"place": range(5), "version": ["a@1"] * 5} | {n: list(c) for n, c in columns.items()})
    read = read_logged_answers(table)
    assert read[0].messages == [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "Yes."}]
    assert [each.why for each in read[1:]] == [NO_TEXT, ANSWER_IS_LABEL, NO_CHAT, NOT_TEXT]


def test_an_alarm_says_which_way_answers_went() -> None:
    state = start_test(EXPENSIVE, [2.0] * 60, wanted=60)
    values = [row_of(RequestValue, place=place, at=float(place), value=4.0) for place in range(60)]
    after = advance_test(state, values, 5.0)
    change = measure_change(after, [each.value for each in values])
    reason = describe_alarm(after, 5.0, 0.05, 10, change, format_category_name)
    assert (
        "Responses are less likely under the base model than before: perplexity 7.39 in the reference, 54.6"
        in reason
    )
    assert "The perplexity of responses under the base model has changed" in reason


def test_it_is_watched_against_the_first_answers(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model_losses, "VersionBases", StubBases)
    body = {"endpoint": "Bank", "reference_rows": 60, "watched": ["output_length", EXPENSIVE]}
    monitored.commands.table()["set_monitor"](body, OWNER)
    rng = np.random.default_rng(1)
    made = Traffic(failing=0, every=7_200)  # five days, then nine as before and ten of another kind
    for first, count, length in ((0, 60, 40), (60, 108, 40), (168, 120, 400)):
        texts = bank_questions(rng, count)
        lines = request_lines(texts, ["y" * length for _ in texts], made, rng, first=first)
        append(monitored.log / "requests-000000.jsonl", lines)
        monitored.catch_up()
    monitor = monitored.monitor()
    assert monitor.base_look is not None
    assert monitor.base_look.measured == 120
    nats = monitored.database.query("SELECT output_perplexity AS nats FROM request_signal")[
        "nats"
    ].to_pylist()
    assert nats[-120:] == [4.0] * 120
    alerts = {alert.subject for alert in monitor_alerts.open_alerts(monitored.database, "endpoint-1")}
    assert EXPENSIVE in alerts


def test_without_the_base_it_is_skipped_with_a_sentence(monitored: Monitored) -> None:
    body = {"endpoint": "Bank", "reference_rows": 60, "watched": ["output_length", EXPENSIVE]}
    monitored.commands.table()["set_monitor"](body, OWNER)
    rng = np.random.default_rng(1)
    texts = bank_questions(rng, 90)
    append(monitored.log / "requests-000000.jsonl", request_lines(texts, texts, Traffic(failing=0), rng))
    monitored.catch_up()
    monitor = monitored.monitor()
    assert [state.name for state in monitor.states] == ["output_length"]
    assert monitor.reference is not None
    assert "no folder of the registered model intents@3" in monitor.reference.values[EXPENSIVE].why
    assert monitor.measured_place == 90


def test_a_look_that_does_not_watch_it_loads_nothing(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_job, "_score_under_base", None)  # would raise if it were asked
    monitored.commands.table()["set_monitor"]({"endpoint": "Bank", "reference_rows": 60}, OWNER)
    rng = np.random.default_rng(1)
    texts = bank_questions(rng, 90)
    append(monitored.log / "requests-000000.jsonl", request_lines(texts, texts, Traffic(failing=0), rng))
    monitored.catch_up()
    assert monitored.monitor().measured_place == 90
    assert monitored.monitor().base_look is None
