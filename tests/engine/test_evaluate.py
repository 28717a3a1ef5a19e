"""The evaluate job on a two-layer model: rows, answers, losses, metrics, and what can't be scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.job import Cancelled, Job
from engine.jobs import evaluate, train
from engine.tuning import checkpoint
from store.errors import ConfigError, DataError, ModelError, StateError
from store.evaluate_config import EvaluateConfig
from store.home import Home
from store.jobdir import write_json
from tests.engine.told import QUICK, cancel_when, events
from tests.tiny import conversations, make_job, write_encoder, write_model, write_rows

pytestmark = pytest.mark.usefixtures("one_thread")
METRICS = ["exact_match", "chrf", "perplexity", "bits_per_byte"]
CLASSES = ["accuracy", "f1_macro", "ece", "brier"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def trained(home: Home, name: str = "run", **fields: Any) -> Job:
    job = make_job(home, name, **(QUICK | {"probes": False, "max_steps": 3, "learning_rate": 1e-2} | fields))
    result = train.run(job)
    write_json(job.dir.result, {"status": "finished", "result": json.loads(json.dumps(result))})
    return job


def evaluation(home: Home, name: str, *, rows: str = "rows", kind: str = "chat", **fields: Any) -> Job:
    asked = {"metrics": METRICS, "max_new_tokens": 4, "dataset": rows} | fields
    config = EvaluateConfig.parse(asked)
    folder = home.jobs / name
    folder.mkdir()
    order = {
        "job_id": name,
        "kind": "evaluate",
        "home": str(home.path),
        "device": "cpu",
        "attempt": 1,
        "resume": False,
        "config": config.document(),
        "dataset": {"dataset_id": rows, "fingerprint": rows, "name": rows, "kind": kind},
        "split": {"split_seed": 0, "validation_size": 0.1, "test_size": 0.1},
    }
    write_json(folder / "config.json", order)
    return Job(folder)


def measured(home: Home, name: str, **fields: Any) -> tuple[Job, dict[str, Any], list[dict[str, Any]]]:
    """The job, its result and its rows; the result goes through JSON as it would."""
    job = evaluation(home, name, **fields)
    result = json.loads(json.dumps(evaluate.run(job)))
    return job, result, pq.read_table(job.dir.predictions).to_pylist()


def figure(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(f for f in result["figures"] if f["metric"] == f"eval/{name}")


def test_a_run_is_evaluated_on_the_rows_that_it_held_out(home: Home) -> None:
    run = trained(home)
    held = pq.read_table(run.dir.row_losses).to_pylist()
    losses = {}
    for checkpoint_name, column in (("tuned", "tuned_loss"), ("base", "base_loss")):
        job, result, rows = measured(home, checkpoint_name, run="run", checkpoint=checkpoint_name)
        assert [row["row_id"] for row in rows] == sorted(row["row_id"] for row in held)
        own = {row["row_id"]: row for row in held}
        for row in rows:
            assert row["loss_sum"] == pytest.approx(own[row["row_id"]][column], abs=1e-4)
            assert row["tokens"] == own[row["row_id"]]["tokens"]
            assert row["prompt"].startswith("Number ")
            assert row["bytes"] == len(row["reference"].encode())
        perplexity = figure(result, "perplexity")
        assert perplexity["n"] == len(rows)
        losses[checkpoint_name] = np.log(perplexity["value"])
        total = sum(row["loss_sum"] for row in rows) / sum(row["tokens"] for row in rows)
        assert losses[checkpoint_name] == pytest.approx(total)
        assert [e["status"] for e in events(job, "status")] == ["preparing", "evaluating"]
        assert set(pq.read_table(job.dir.scores)["metric"].to_pylist()) == {f"eval/{m}" for m in METRICS}
        assert not list(job.dir.path.glob(".*"))
    assert losses["tuned"] < losses["base"]


@pytest.mark.parametrize(
    "method",
    [
        {"method": "full"},
        {"method": "prompt_tuning", "num_virtual_tokens": 3},
        {"method": "prefix_tuning", "num_virtual_tokens": 3},
        {"method": "qlora", "r": 4},
        {"method": "ia3", "load_in_8bit": True},
        {"method": "lora", "r": 4, "init_lora_weights": "pissa"},
        {"method": "adalora", "r": 4},
    ],
    ids=lambda fields: fields["method"],
)
def test_every_kind_of_method_gives_the_losses_and_answers_of_its_run(
    home: Home, method: dict[str, Any]
) -> None:
    run = trained(home, **method)
    own = {row["row_id"]: row["tuned_loss"] for row in pq.read_table(run.dir.row_losses).to_pylist()}
    _, _, rows = measured(home, "tuned", run="run")
    assert {row["row_id"]: row["loss_sum"] for row in rows} == pytest.approx(own, abs=2e-3)
    answered = {row["row_id"]: row["tuned"] for row in pq.read_table(run.dir.predictions).to_pylist()}
    said = {row["row_id"]: row["prediction"] for row in rows}
    assert {row_id: said[row_id] for row_id in answered} == answered


def test_a_stopped_run_has_its_newest_and_its_best_checkpoint(home: Home) -> None:
    job = make_job(home, "cut", **(QUICK | {"learning_rate": 1e-2, "probes": False}))
    cancel_when(job, lambda e: e.get("step") == 6 and "train/loss" in e.get("values", {}))
    with pytest.raises(Cancelled):
        train.run(job)
    kept = checkpoint.newest(job.dir.checkpoints)
    assert kept is not None
    best = kept[1]["state"]["best_step"]
    assert best < kept[1]["state"]["step"] == 6
    before = sorted(path.name for path in job.dir.path.rglob("*"))
    events_before = job.dir.events.read_bytes()
    validated = pq.read_table(job.dir.validations).to_pylist()
    expected = {row["row_id"]: row["loss_sum"] for row in validated if row["step"] == best}
    _, _, rows = measured(home, "best", run="cut", checkpoint="best", part="validation")
    assert {row["row_id"]: row["loss_sum"] for row in rows} == pytest.approx(expected, abs=1e-4)
    _, _, newest = measured(home, "newest", run="cut", checkpoint="newest", part="validation")
    assert [row["loss_sum"] for row in newest] != [row["loss_sum"] for row in rows]
    assert sorted(path.name for path in job.dir.path.rglob("*")) == before  # the run is left as it was
    assert job.dir.events.read_bytes() == events_before
    with pytest.raises(StateError, match="left no model"):
        evaluate.run(evaluation(home, "tuned", run="cut"))


def test_a_finished_run_is_its_best_checkpoint_or_says_that_it_is_gone(home: Home) -> None:
    job = trained(home)
    checkpoint_folder = job.dir.checkpoints
    for path in sorted(checkpoint_folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    _, _, best = measured(home, "best", run="run", checkpoint="best")
    _, _, tuned = measured(home, "tuned", run="run")
    assert best == tuned
    document = json.loads(job.dir.result.read_text())
    document["result"]["verdict"]["stopped"] = {"step": 9, "restored_step": 3}
    write_json(job.dir.result, document)
    with pytest.raises(StateError, match="step 3 of 9"):
        evaluate.run(evaluation(home, "newest", run="run", checkpoint="newest"))


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
        assert result["notices"] == ["A random 7 of 60 rows."]
        samples.append([row["row_id"] for row in rows])
    assert samples[0] == samples[1] != samples[2]


def test_rows_that_were_trained_on_are_told(home: Home) -> None:
    trained(home)
    _, result, _ = measured(home, "all", run="run", part="all", metrics=["perplexity"])
    assert any("were trained on" in notice for notice in result["notices"])


def test_answers_are_greedy_unless_asked_and_sampled_by_the_seed(home: Home) -> None:
    said = {}
    for name, fields in {
        "greedy": {"model": "tiny"},
        "again": {"model": "tiny", "per_device_eval_batch_size": 3},
        "drawn": {"model": "tiny", "do_sample": True, "temperature": 3.0},
        "same": {"model": "tiny", "do_sample": True, "temperature": 3.0},
        "narrow": {"model": "tiny", "do_sample": True, "top_p": 1e-6},
    }.items():
        _, _, rows = measured(home, name, part="test", **fields)
        said[name] = [row["prediction"] for row in rows]
    assert said["greedy"] == said["again"] == said["narrow"]
    assert said["drawn"] == said["same"] != said["greedy"]


def test_prompt_methods_draw_too(home: Home) -> None:
    trained(home, method="prompt_tuning", num_virtual_tokens=3)
    said = {}
    for name, fields in {
        "greedy": {},
        "narrow": {"do_sample": True, "top_p": 1e-6},
        "drawn": {"do_sample": True, "temperature": 5.0},
    }.items():
        _, _, rows = measured(home, name, run="run", **fields)
        said[name] = [row["prediction"] for row in rows]
    assert said["greedy"] == said["narrow"] != said["drawn"]


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
    job, result, found = measured(home, "odd", rows="odd", model="tiny", part="all", metrics=metrics)
    assert [row["row_id"] for row in found] == list(range(12))
    assert result["counts"]["no_prompt"] == 1
    assert result["counts"]["no_reference"] == 3
    assert found[3]["prediction"] is not None
    assert (found[5]["prediction"], found[5]["prompt"]) == (None, None)
    exact = figure(result, "exact_match")
    assert exact["rows"] == 12
    assert exact["n"] == 9
    assert exact["unscored"]["reasons"] == {"the row has no reference": 2, "no answer was generated": 1}
    assert figure(result, "picky")["n"] == 6
    assert "no red" in json.dumps(figure(result, "picky")["unscored"])
    assert "no Python" in figure(result, "broken")["failed"]
    assert figure(result, "perplexity")["value"] > 1
    assert pq.read_table(job.dir.scores).num_rows == 12 * 4


def test_empty_answers_are_scored_and_counted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.jobs import evaluate_rows

    monkeypatch.setattr(evaluate_rows, "answers", lambda *a, **k: [""] * len(a[2]))
    _, result, _ = measured(home, "e", model="tiny")
    assert result["counts"]["empty"] == result["n"]
    assert (figure(result, "exact_match")["value"], figure(result, "exact_match")["n"]) == (0, result["n"])


def test_groups_are_resampled_together(home: Home) -> None:
    labels = [f"g{i % 3}" for i in range(60)]
    write_rows(home, "grouped", conversations(60), labels=labels)
    _, result, rows = measured(home, "g", rows="grouped", model="tiny", part="all", group_by="label")
    assert figure(result, "perplexity")["groups"] == 3
    assert len({row["group"] for row in rows}) == 3
    assert {row["label"] for row in rows} == {"g0", "g1", "g2"}
    with pytest.raises(ConfigError) as caught:
        evaluate.run(evaluation(home, "h", model="tiny", group_by="source.nowhere"))
    assert caught.value.field == "group_by"


def test_plain_texts_are_continued(home: Home) -> None:
    write_rows(home, "texts", [f"Once upon a time number {i} went home." for i in range(20)] + ["a"])
    _, result, rows = measured(home, "t", rows="texts", kind="text", model="tiny", part="all")
    assert result["counts"]["no_prompt"] == 1
    assert rows[0]["bytes"] == len("Once upon a time number 0 went home.") - 1  # the first token is not told
    assert rows[0]["prompt"] + " " + rows[0]["reference"] == "Once upon a time number 0 went home." or (
        rows[0]["prompt"] + rows[0]["reference"] == "Once upon a time number 0 went home."
    )


def test_a_row_beyond_the_limit_is_cut_for_the_loss_and_told(home: Home) -> None:
    _, whole, rows = measured(home, "w", model="tiny", metrics=["perplexity"])
    _, result, short = measured(home, "s", model="tiny", metrics=["perplexity"], max_length=36)
    assert whole["counts"]["cut"] == 0
    assert result["counts"]["cut"] > 0
    assert sum(row["tokens"] or 0 for row in short) < sum(row["tokens"] for row in rows)
    assert "cut for the loss" in result["notices"][-1]


def test_a_head_says_classes_with_their_probabilities(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "labelled", rows, labels=[row[-1]["content"].split()[0] for row in rows])
    job = trained_head(home, "head")
    own = {r["row_id"]: r for r in pq.read_table(job.dir.class_predictions).to_pylist()}
    _, result, found = measured(home, "e", rows="labelled", run="head", metrics=CLASSES)
    assert [row["row_id"] for row in found] == sorted(own)
    for row in found:
        assert row["prediction"] == own[row["row_id"]]["predicted"]
        assert row["probability"] == pytest.approx(own[row["row_id"]]["probability"], abs=1e-4)
    verdict = json.loads(job.dir.result.read_text())["result"]["verdict"]["classification"]
    tuned = verdict["models"]["tuned"]
    assert figure(result, "accuracy")["value"] == pytest.approx(tuned["accuracy"]["value"])
    assert figure(result, "brier")["value"] == pytest.approx(tuned["calibration"]["brier"]["value"], abs=1e-4)
    assert not any(f["failed"] for f in result["figures"])
    _, base, said = measured(home, "b", rows="labelled", run="head", checkpoint="base", metrics=["accuracy"])
    assert base["n"] == result["n"]
    assert said[0]["prediction"] is not None


def test_a_row_without_a_text_is_counted_by_a_head(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "labelled", rows, labels=[row[-1]["content"].split()[0] for row in rows])
    trained_head(home, "head")
    odd = conversations(6)
    odd[2][0]["content"] = ""
    labels: list[str | None] = ["red", "green", "blue", None, "purple", "red"]
    write_rows(home, "odd", odd, labels=labels)
    _, result, found = measured(home, "e", rows="odd", run="head", part="all", metrics=CLASSES)
    assert (found[2]["prediction"], found[2]["probability"]) == (None, None)
    assert [result["counts"][k] for k in ("no_prompt", "no_reference", "no_loss")] == [1, 1, 3]
    assert figure(result, "accuracy")["n"] == 4
    assert figure(result, "brier")["unscored"]["reasons"] == {"the row has no label": 2}
    assert not any(f["failed"] for f in result["figures"])
    assert "1 row with a label that training doesn't know: wrong." in result["notices"]


def trained_head(home: Home, name: str, **fields: Any) -> Job:
    folder = make_job(home, name, **(QUICK | {"task": "classification", "max_steps": 3} | fields))
    order = json.loads(folder.dir.config.read_text())
    order["dataset"] |= {"fingerprint": "labelled", "name": "labelled"}
    write_json(folder.dir.config, order)
    job = Job(folder.dir.path)
    result = train.run(job)
    write_json(job.dir.result, {"status": "finished", "result": json.loads(json.dumps(result))})
    return job


def test_an_encoder_with_a_head_is_evaluated_and_without_one_refused(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "labelled", rows, labels=[row[-1]["content"].split()[0] for row in rows])
    write_encoder(home.models / "reader")
    job = trained_head(home, "head", model=str(home.models / "reader"))
    own = {r["row_id"]: r["predicted"] for r in pq.read_table(job.dir.class_predictions).to_pylist()}
    _, _, found = measured(home, "e", rows="labelled", run="head", metrics=["accuracy"])
    assert {row["row_id"]: row["prediction"] for row in found} == own
    with pytest.raises(ModelError, match="encoder"):
        evaluate.run(
            evaluation(home, "b", rows="labelled", run="head", checkpoint="base", metrics=["accuracy"])
        )


def test_general_probes_come_with_their_intervals(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluation import general

    whole = {"prose": general.prose, "questions": general.questions}
    for name, make in whole.items():
        monkeypatch.setattr(general, name, lambda *a, make=make: make(*a).part(8))
    job, result, _ = measured(home, "p", model="tiny", metrics=["perplexity"], probes=True)
    assert [probe["probe"] for probe in result["probes"]] == ["prose", "choices"]
    for probe in result["probes"]:
        assert probe["loss"]["low"] < probe["loss"]["value"] < probe["loss"]["high"]
    assert result["probes"][1]["accuracy"]["n"] == 8
    assert pq.read_table(job.dir.probes).num_rows == pq.read_table(job.dir.probe_items).num_rows == 16


def test_it_stops_when_asked(home: Home) -> None:
    job = evaluation(home, "c", model="tiny")
    cancel_when(job, lambda e: e.get("message") == "Answering the prompts")
    with pytest.raises(Cancelled):
        evaluate.run(job)


def test_an_empty_part_and_a_missing_run_are_named(home: Home) -> None:
    write_rows(home, "one", conversations(1))
    with pytest.raises(DataError) as caught:
        evaluate.run(evaluation(home, "e", rows="one", model="tiny", part="validation"))
    assert caught.value.field == "part"
    with pytest.raises(ModelError):
        evaluate.run(evaluation(home, "f", model="nowhere/at/all"))


def test_running_out_of_memory_says_what_to_change(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.jobs import evaluate_rows

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(evaluate_rows, "row_losses", full)
    with pytest.raises(Exception, match="out of memory") as caught:
        evaluate.run(evaluation(home, "m", model="tiny"))
    assert caught.value.change == {"per_device_eval_batch_size": 4}
