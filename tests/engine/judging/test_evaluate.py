"""The evaluate job on a two-layer model: rows, answers, losses, metrics, and what can't be scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.evaluation import evaluate_job
from engine.worker.job import JobCancelled
from store.core.errors import ConfigError, DataError, ModelError
from store.core.home import Home
from tests.engine.evaluating import (
    evaluation,
    figure,
    home_with_rows,
    measured,
    trained,
)
from tests.engine.job_events import cancel_when
from tests.tiny import conversations, write_rows


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_with_rows(tmp_path)


def test_a_model_by_name_on_any_part_and_sample(home: Home) -> None:
    parts = {}
    for part in ("train", "validation", "test", "all"):
        _, _, rows = measured(home, part, model="tiny", part=part, max_rows=None, metrics=["perplexity"])
        parts[part] = {row["row_id"] for row in rows}
        assert all(row["prediction"] is None for row in rows)  # no metric looks at answers
    assert parts["all"] == set(range(60))
    assert parts["train"] | parts["validation"] | parts["test"] == parts["all"]
    assert sum(len(parts[part]) for part in ("train", "validation", "test")) == 60
    samples = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _, result, rows = measured(
            home, name, model="tiny", part="all", max_rows=7, seed=seed, metrics=["perplexity"]
        )
        assert result.notices == ["A random 7 of 60 rows."]
        samples.append([row["row_id"] for row in rows])
    assert samples[0] == samples[1] != samples[2]


def test_rows_that_were_trained_on_are_told(home: Home) -> None:
    trained(home)
    _, result, _ = measured(home, "all", run="run", part="all", metrics=["perplexity"])
    assert any("were used for training" in notice for notice in result.notices)


def test_answers_are_greedy_unless_asked_and_sampled_by_the_seed(home: Home) -> None:
    predictions = {}
    for name, fields in {
        "greedy": {"model": "tiny"},
        "again": {"model": "tiny", "per_device_eval_batch_size": 3},
        "drawn": {"model": "tiny", "do_sample": True, "temperature": 3.0},
        "same": {"model": "tiny", "do_sample": True, "temperature": 3.0},
        "narrow": {"model": "tiny", "do_sample": True, "top_p": 1e-6},
    }.items():
        _, _, rows = measured(home, name, part="test", **fields)
        predictions[name] = [row["prediction"] for row in rows]
    assert predictions["greedy"] == predictions["again"] == predictions["narrow"]
    assert predictions["drawn"] == predictions["same"] != predictions["greedy"]


def test_prompt_methods_draw_too(home: Home) -> None:
    trained(home, method="prompt_tuning", num_virtual_tokens=3)
    predictions = {}
    for name, fields in {
        "greedy": {},
        "narrow": {"do_sample": True, "top_p": 1e-6},
        "drawn": {"do_sample": True, "temperature": 5.0},
    }.items():
        _, _, rows = measured(home, name, run="run", **fields)
        predictions[name] = [row["prediction"] for row in rows]
    assert predictions["greedy"] == predictions["narrow"] != predictions["drawn"]


def test_what_cannot_be_asked_or_scored_keeps_its_place_and_is_counted(home: Home) -> None:
    rows = conversations(12)
    rows[3] = [{"role": "user", "content": "Nobody answered"}]
    rows[5] = [{"role": "assistant", "content": "Nobody asked"}]
    rows[7] = [{"role": "user", "content": "Empty"}, {"role": "assistant", "content": ""}]
    write_rows(home, "odd", rows)
    (home.metrics / "picky.py").write_text(
        "def score(prediction, reference):\n"
        "    if reference == 'red 0': raise ValueError('no red')\n"
        "    return 1.0\n"
    )
    (home.metrics / "broken.py").write_text("def score(:\n")
    metrics = ["exact_match", "perplexity", {"metric": "own", "file": "picky"},
               {"metric": "own", "file": "broken"}]  # fmt: skip
    job, result, measured_rows = measured(home, "odd", rows="odd", model="tiny", part="all", metrics=metrics)
    assert [row["row_id"] for row in measured_rows] == list(range(12))
    assert result.counts.no_prompt == 1
    assert result.counts.no_reference == 3
    assert measured_rows[3]["prediction"] is not None
    assert (measured_rows[5]["prediction"], measured_rows[5]["prompt"]) == (None, None)
    exact = figure(result, "exact_match")
    assert exact.rows == 12
    assert exact.n == 9
    assert exact.unscored.reasons == {"the row has no reference": 2, "no answer was generated": 1}
    assert figure(result, "picky").n == 6
    assert "no red" in str(figure(result, "picky").unscored)
    assert "not valid Python" in figure(result, "broken").failed
    assert figure(result, "perplexity").value > 1
    assert pq.read_table(job.dir.scores).num_rows == 12 * 4


def test_groups_are_resampled_together(home: Home) -> None:
    labels = [f"g{i % 3}" for i in range(60)]
    write_rows(home, "grouped", conversations(60), labels=labels)
    _, result, rows = measured(home, "g", rows="grouped", model="tiny", part="all", group_by="label")
    assert figure(result, "perplexity").groups == 3
    assert len({row["group"] for row in rows}) == 3
    assert {row["label"] for row in rows} == {"g0", "g1", "g2"}
    with pytest.raises(ConfigError) as caught:
        evaluate_job.run(evaluation(home, "h", model="tiny", group_by="source.nowhere"))
    assert caught.value.field == "group_by"


def test_plain_texts_are_continued(home: Home) -> None:
    write_rows(home, "texts", [f"Once upon a time number {i} went home." for i in range(20)] + ["a"])
    _, result, rows = measured(home, "t", rows="texts", kind="text", model="tiny", part="all")
    assert result.counts.no_prompt == 1
    assert rows[0]["bytes"] == len("Once upon a time number 0 went home.") - 1  # the first token is not told
    assert rows[0]["prompt"] + " " + rows[0]["reference"] == "Once upon a time number 0 went home." or (
        rows[0]["prompt"] + rows[0]["reference"] == "Once upon a time number 0 went home."
    )


def test_a_row_beyond_the_limit_is_cut_for_the_loss_and_told(home: Home) -> None:
    _, whole, rows = measured(home, "w", model="tiny", metrics=["perplexity"])
    _, result, short = measured(home, "s", model="tiny", metrics=["perplexity"], max_length=36)
    assert whole.counts.cut == 0
    assert result.counts.cut > 0
    assert sum(row["tokens"] or 0 for row in short) < sum(row["tokens"] for row in rows)
    assert "truncated for the loss" in result.notices[-1]


def test_general_probes_come_with_their_intervals(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluation.probes import suite_probes

    names = ("build_prose_probe", "build_choice_probe")
    whole = {name: getattr(suite_probes, name) for name in names}
    for name, make in whole.items():
        monkeypatch.setattr(suite_probes, name, lambda *a, make=make: make(*a).part(8))
    job, result, _ = measured(home, "p", model="tiny", metrics=["perplexity"], probes=True)
    assert [probe.probe for probe in result.probes] == ["prose", "choices"]
    for probe in result.probes:
        assert probe.loss.low < probe.loss.value < probe.loss.high
    assert result.probes[1].accuracy.n == 8
    assert pq.read_table(job.dir.probes).num_rows == pq.read_table(job.dir.probe_items).num_rows == 16


def test_it_stops_when_asked(home: Home) -> None:
    job = evaluation(home, "c", model="tiny")
    cancel_when(job, lambda e: e.get("message") == "Answering the prompts")
    with pytest.raises(JobCancelled):
        evaluate_job.run(job)


def test_an_empty_part_and_a_missing_run_are_named(home: Home) -> None:
    write_rows(home, "one", conversations(1))
    with pytest.raises(DataError) as caught:
        evaluate_job.run(evaluation(home, "e", rows="one", model="tiny", part="validation"))
    assert caught.value.field == "part"
    with pytest.raises(ModelError):
        evaluate_job.run(evaluation(home, "f", model="nowhere/at/all"))


def test_running_out_of_memory_says_what_to_change(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluation import model_answers

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model_answers, "compute_row_losses", full)
    with pytest.raises(Exception, match="out of memory") as caught:
        evaluate_job.run(evaluation(home, "m", model="tiny"))
    assert caught.value.change == {"per_device_eval_batch_size": 4}
