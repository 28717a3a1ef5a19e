"""Tasks of lm-evaluation-harness: what they say of each item, and those that can't be run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.evaluation import evaluate_job
from engine.evaluation.probes import harness
from engine.worker.job import JobCancelled
from store.core.home import Home
from store.evaluation.schemas import EvaluationResult
from tests.engine.evaluating import evaluation, figure, home_with_rows
from tests.engine.tasks import CAPITALS, THERE, item, stand_in
from tests.shapes import held_to
from tests.tiny import make_model, make_tokenizer


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_with_rows(tmp_path)


def test_items_become_scores_and_rows_of_a_probe(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, {"facts": [item(0, [-1, -3], 0), item(1, [-1, -3], 1), item(2, [-5, -4, -9], 1)]})
    job = evaluation(home, "e", model="tiny", metrics=["perplexity"], tasks="facts")
    result = held_to(EvaluationResult, evaluate_job.run(job))
    accuracy = next(
        metric_figure for metric_figure in result.figures if metric_figure.metric == "task/facts/acc"
    )
    assert accuracy.value == pytest.approx(2 / 3)
    assert accuracy.low < 2 / 3 < accuracy.high
    assert accuracy.n == 3
    scores = pq.read_table(job.dir.scores).to_pylist()
    assert [row["score"] for row in scores if row["metric"] == "task/facts/acc"] == [1, 0, 1]
    rows = pq.read_table(job.dir.probes).to_pylist()
    assert [row["correct"] for row in rows] == [1, 0, 1]
    assert [row["options"] for row in rows] == [2, 2, 3]
    assert rows[0]["loss_sum"] == pytest.approx(np.log1p(np.exp(-2)))
    assert pq.read_table(job.dir.probe_items)["probe"].to_pylist() == ["task/facts"] * 3


def test_one_task_never_ends_the_others(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [{"doc_id": i, "target": "a", "filter": "strict", "metrics": ["exact_match", "odd"],
                "arguments": [("Say a", {})], "filtered_resps": ["b"], "odd": (1, 2),
                "exact_match": value} for i, value in enumerate([1.0, float("nan"), 0.0])]  # fmt: skip
    stand_in(monkeypatch, {
        "wrong_key": IndexError("list index out of range"),
        "hub": ConnectionError("no network"),
        "free": answers,
    })  # fmt: skip
    job = evaluation(home, "e", model="tiny", metrics=["perplexity"], tasks=["wrong_key", "hub", "free"])
    result = evaluate_job.run(job)
    failed = {
        metric_figure.metric: metric_figure.failed for metric_figure in result.figures if metric_figure.failed
    }
    assert "answer key is not one of its options" in failed["task/wrong_key"]
    assert "The task hub can't be run: ConnectionError: no network" in failed["task/hub"]
    free = next(
        metric_figure
        for metric_figure in result.figures
        if metric_figure.metric == "task/free/exact_match,strict"
    )
    assert (free.n, free.value) == (2, 0.5)
    assert free.unscored.reasons == {"the task returned nan": 1}
    assert any("without scores per item: odd" in notice for notice in result.notices)
    assert figure(result, "perplexity").value > 1


def test_a_request_to_stop_passes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, {"facts": JobCancelled()})
    with pytest.raises(JobCancelled):
        harness.run_tasks(harness.HarnessModel(None, None, "cpu", 1), ["facts"], home)


@THERE
def test_a_task_of_the_home_folder_is_run_by_the_harness(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home.cache / "hf"))
    rows = [{"question": f"Number {i}?", "options": ["red", "green"], "right": i % 2} for i in range(6)]
    good, bad = home.path / "good.jsonl", home.path / "bad.jsonl"
    good.write_text("\n".join(map(json.dumps, rows)))
    bad.write_text("\n".join(json.dumps(row | {"right": 7}) for row in rows))
    for name, file in (("capitals", good), ("broken", bad)):
        text = CAPITALS.replace("FILE", str(file)).replace("task: capitals", f"task: {name}")
        (home.tasks / f"{name}.yaml").write_text(text)
    model, tokenizer = make_model(tie_word_embeddings=False).eval(), make_tokenizer()
    asked = harness.HarnessModel(model, tokenizer, "cpu", 2, limit=5)
    result = harness.run_tasks(asked, ["capitals", "broken"], home)
    acc = next(metric for metric in result.scored if metric.name == "task/capitals/acc")
    (measured,) = result.choices[0]
    assert acc.scores.tolist() == measured.correct.tolist()
    assert len(measured) == 5
    assert "first 5 items" in result.notices[0]
    failed = next(metric.failed for metric in result.scored if metric.failed)
    assert "broken" in failed
