"""What goes wrong in an evaluation is counted and told in a sentence, and everything else goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation import evaluate_job, model_answers
from store.core.documents import as_json, parse_document
from store.core.home import Home
from store.evaluation.schemas import EvaluationResult
from tests.engine.evaluating import evaluation, figure, home_with_rows
from tests.tiny import conversations, write_rows
from tests.unit.judge_server import completion, judging

ROWS = 20
METRICS = {
    "syntax": "def score(prediction, reference)\n    return 1\n",
    "seventeen": "asked = []\n\ndef score(prediction):\n    asked.append(1)\n"
    "    if len(asked) == 17: raise RuntimeError('row 17 is odd')\n    return 1.0\n",
    "nothing": "def score(prediction):\n    return float('nan') if 'nan' in prediction else 1.0\n",
    "words": "def score(prediction):\n    return 'good'\n",
    "endless": "def scores(predictions):\n    return [1.0]\n",
    "quits": "import sys\n\ndef score(prediction):\n    sys.exit(3)\n",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = home_with_rows(tmp_path)
    rows = conversations(ROWS)
    write_rows(home, "few", rows, labels=["red" if i % 2 else "green" for i in range(ROWS)])
    for name, text in METRICS.items():
        (home.metrics / f"{name}.py").write_text(text)
    return home


def evaluated(
    home: Home, monkeypatch: pytest.MonkeyPatch, answers: list[str], *metrics: Any
) -> EvaluationResult:
    """The result of an evaluation in which the model says `answers`, through JSON as it would go."""
    monkeypatch.setattr(model_answers, "generate_answers", lambda *a, **k: answers)
    job = evaluation(home, "e", rows="few", model="tiny", part="all", metrics=list(metrics))
    written = json.dumps(evaluate_job.run(job), allow_nan=False, default=as_json)
    return parse_document(EvaluationResult, json.loads(written))


def test_metrics_of_the_user_that_are_broken_in_every_way(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = ["nan" if i in (3, 4) else "red" for i in range(ROWS)]
    own = [{"metric": "own", "file": name} for name in METRICS]
    result = evaluated(home, monkeypatch, predictions, *own, "exact_match")
    failed = {name: figure(result, name).failed for name in METRICS}
    assert failed["syntax"] == "syntax.py is not valid Python: line 1: expected ':'."
    assert (
        failed["words"] == "No row could be scored; the first: TypeError: it gave 'good' (str), not a number."
    )
    assert failed["endless"] == "It returned 1 values for 20 rows."
    assert failed["quits"] == "No row could be scored; the first: SystemExit: 3."
    odd = figure(result, "seventeen")
    assert (odd.n, odd.unscored.reasons) == (ROWS - 1, {"RuntimeError: row 17 is odd": 1})
    assert odd.unscored.examples == [(16, "RuntimeError: row 17 is odd")]
    gone = figure(result, "nothing")
    assert (gone.n, gone.value) == (ROWS - 2, 1)
    assert gone.unscored.reasons == {"ValueError: it gave nan": 2}
    assert figure(result, "exact_match").n == ROWS


def test_labels_outside_the_set_and_empty_answers_are_wrong_and_counted(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = ["", "  ", *["red"] * (ROWS - 2)]
    within = {"metric": "accuracy", "labels": ["red", "blue"], "name": "within"}
    result = evaluated(home, monkeypatch, predictions, "accuracy", within)
    assert result.counts.empty == 2
    whole, some = figure(result, "accuracy"), figure(result, "within")
    assert whole.n == some.n == ROWS
    assert whole.details["no_label"]["count"] == 2
    assert some.details["outside"] == {"count": ROWS // 2, "most": [["green", ROWS // 2]]}
    assert some.value == pytest.approx(whole.value)  # no answer can be right where the label isn't known


def test_a_judge_that_is_down_or_talks_nonsense_ends_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(question: str, number: int) -> Any:
        return completion('{"grade": 4}' if "red" in question.split("[Answer")[1] else "A fine answer!")

    predictions = ["red" if i < 15 else "blue" for i in range(ROWS)]
    with judging(reply) as server:
        judge = {"metric": "judge", "model": "m", "retries": 0, "timeout": 2, "with_reference": False}
        there, gone = judge | {"base_url": server.base_url}, judge | {"base_url": "http://127.0.0.1:9/v1"}
        result = evaluated(home, monkeypatch, predictions, there, gone | {"name": "down"}, "exact_match")
    graded, down = figure(result, "judge"), figure(result, "down")
    assert (graded.n, graded.value) == (15, 4)
    assert graded.unscored.reasons == {"the judge's answer has no verdict in JSON": 5}
    assert down.failed.startswith("No row could be scored; the first: the judge: ")
    assert down.unscored.count == ROWS
    assert figure(result, "exact_match").n == ROWS


def test_one_row_has_a_figure_without_a_certainty(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_answers, "generate_answers", lambda *a, **k: ["red"])
    job = evaluation(
        home, "e", rows="few", model="tiny", part="all", max_rows=1, metrics=["chrf", "accuracy"]
    )
    result = evaluate_job.run(job)
    assert result.n == 1
    for name in ("chrf", "accuracy"):
        metric_figure = figure(result, name)
        assert metric_figure.n == 1
        assert metric_figure.low is None or metric_figure.high - metric_figure.low > 0.5
