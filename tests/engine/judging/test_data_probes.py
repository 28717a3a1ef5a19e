"""Data sets as probes of a run: what is measured of their rows, which rows, and what can't be measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from engine.evaluation.probes import configured_probes, suite_probes, suite_texts
from engine.evaluation.probes.base_samples import SamplePlan
from engine.evaluation.probes.probe_sets import select_evenly
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import render
from engine.training import train_job
from engine.training.preview import preview_query
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests import tiny
from tests.engine.job_events import QUICK, events, facts, series
from tests.tiny import conversations, make_job, make_model, make_tokenizer, write_model

LABELS = ["cold", "warm", "hot"]


def write_rows(home: Home, name: str, rows: list[Any], **more: Any) -> None:
    """With digests of its own, so that no row passes for one of the rows that are trained on."""
    tiny.write_rows(home, name, rows, **more)
    table = pq.read_table(home.rows(name))
    digests = pa.array([crc32(f"{name} {i}".encode()) for i in range(len(rows))], pa.uint64())
    place = table.column_names.index("digest")
    pq.write_table(table.set_column(place, table.schema.field("digest"), digests), home.rows(name))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


@pytest.fixture
def small_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = suite_texts.load_suite()
    passages = tuple(whole.passages[i] for i in select_evenly(len(whole.passages), 3))
    items = tuple(whole.items[i] for i in select_evenly(len(whole.items), 8))
    monkeypatch.setattr(
        suite_texts, "load_suite", lambda: suite_texts.Suite(items, passages, whole.fingerprint)
    )
    monkeypatch.setattr(suite_probes, "LIGHT_COUNTS", {"prose": 1, "choices": 4})
    monkeypatch.setattr(suite_probes, "SamplePlan", partial(SamplePlan, count=4, length=6))


def source(name: str, kind: str = "chat") -> dict[str, Any]:
    return {"dataset_id": name, "name": name, "kind": kind, "fingerprint": name}


def labelled_rows(count: int) -> list[Any]:
    return [
        [
            {"role": "user", "content": f"Water at {i} degrees"},
            {"role": "assistant", "content": LABELS[i % 3]},
        ]
        for i in range(count)
    ]


def write_labelled(home: Home, name: str, count: int) -> None:
    rows = labelled_rows(count)
    write_rows(home, name, rows, labels=[row[-1]["content"] for row in rows])


def find(home: Home, *sources: dict[str, Any], trained: Any = None, **fields: Any) -> list[Any]:
    config = TrainConfig(dataset="rows", probe_datasets=[s["name"] for s in sources], **fields)
    job = make_job(home, "found")
    return configured_probes.load_dataset_probes(job, config, make_tokenizer(), 256, list(sources), trained)


def test_a_run_measures_them_before_and_after(home: Home, small_suite: None) -> None:
    others = [[{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"so {i}"}]
              for i in range(9)]  # fmt: skip
    write_rows(home, "Other", others)
    write_labelled(home, "Water", 12)
    fields = QUICK | {"probes": True, "probe_share": 1.0, "sample_prompts": 0, "learning_rate": 3e-2}
    job = make_job(home, "run", probe_datasets=["Other", "Water"], probe_rows=5, **fields)
    job.spec["probes"] = [source("Other"), source("Water")]
    forgetting = train_job.run(job)["verdict"].forgetting
    text = next(part for part in forgetting.texts if part.probe == "data/Other")
    assert text.n == 5
    assert text.change.low < text.change.value < text.change.high
    choice = next(part for part in forgetting.choices if part.probe == "data/Water")
    assert choice.n == 5
    assert {part.category for part in choice.categories} <= set(LABELS)
    assert "5 rows of Water" in " ".join([forgetting.headline, *forgetting.sentences])
    table = pq.read_table(job.dir.probes)
    own = table.filter(pc.equal(table["probe"], "data/Other")).to_pylist()
    base = [row for row in own if row["model"] == "base"]
    rows = render(make_tokenizer(), np.array([int(row["item"]) for row in base]),
                          [others[int(row["item"])] for row in base])  # fmt: skip
    losses = compute_row_losses(make_model().eval(), rows, batch_size=4, device="cpu")
    assert [row["loss_sum"] for row in base] == pytest.approx(losses.loss_sum.tolist(), abs=1e-3)
    assert [row["tokens"] for row in base] == rows.trained_counts.tolist()  # of the answers alone
    assert series(job, "probe/data/Other/loss")
    assert series(job, "probe/data/Water/accuracy")
    assert [probe["rows"] for probe in facts(job)["probe_datasets"]] == [5, 5]
    items = pq.read_table(job.dir.probe_items)
    asked = items.filter(pc.equal(items["probe"], "data/Water")).to_pylist()
    assert all(row["options"][row["right"]] == row["category"] for row in asked)


def test_the_likeliest_label_is_chosen_among_all_of_the_set(home: Home) -> None:
    write_labelled(home, "Water", 9)
    (data_probe,) = find(home, source("Water"), probe_rows=3)
    probe = data_probe.probe
    assert list(probe.labels) == sorted(LABELS)  # of all rows, not of those that were drawn alone
    model = make_model().eval()
    measured = probe.measure(model, batch_size=2, device=torch.device("cpu"))
    assert measured.options.tolist() == [3, 3, 3]
    assert measured.correct.tolist() == (measured.chosen == probe.right).tolist()
    assert measured.loss_sum[measured.correct == 1].max(initial=0) <= np.log(3)
    assert measured.loss_sum[measured.correct == 0].min(initial=9) >= np.log(2) - 1e-6


def test_every_run_draws_the_same_rows_and_none_that_it_trains_on(home: Home) -> None:
    write_rows(home, "texts", [f"A plain text with the number {i}." for i in range(40)])
    first, other = (find(home, source("texts", "text"), probe_rows=10, seed=seed)[0] for seed in (0, 7))
    assert first.probe.items == other.probe.items
    assert len(first.probe) == 10
    trained = np.array([int(item) for item in first.probe.items[:4]])
    less = find(home, source("texts", "text"), probe_rows=10, trained=("texts", trained))[0]
    assert len(less.probe) == 10
    assert not set(less.probe.items) & set(first.probe.items[:4])
    assert less.trained == 4
    all_of_it = find(home, source("texts", "text"), trained=("texts", np.arange(40)))[0]
    assert all_of_it.probe is None
    assert "trains on the same rows" in str(all_of_it.reasons)


def test_what_cannot_be_measured_is_told_and_ends_nothing(home: Home) -> None:
    write_rows(home, "empty", [[{"role": "user", "content": "Nobody answered"}] for _ in range(3)])
    write_rows(home, "one", conversations(1))
    job = make_job(home, "told", probe_datasets=["empty", "one", "gone"])
    probes = find(home, source("empty"), source("one"), source("gone"))
    configured_probes.report_dataset_probes(job, probes)
    messages = [event["message"] for event in events(job, "alert")]
    assert "Nothing can be measured of the data set empty: the row has no assistant turn." in messages[0]
    assert any("Only one row of one is measured" in message for message in messages)
    assert any("gone: its rows no longer exist" in message for message in messages)
    assert [fact["rows"] for fact in facts(job)["probe_datasets"]] == [0, 1, 0]


@pytest.mark.parametrize("labels", [False, True])
def test_a_probe_of_one_row_has_no_interval_and_says_so(home: Home, small_suite: None, labels: bool) -> None:
    write_labelled(home, "Water", 12) if labels else write_rows(home, "Water", labelled_rows(1))
    fields = QUICK | {"probes": True, "max_steps": 2, "sample_prompts": 0}
    job = make_job(home, "run", probe_datasets=["Water"], probe_rows=1, **fields)
    job.spec["probes"] = [source("Water")]
    forgetting = train_job.run(job)["verdict"].forgetting
    text = " ".join([forgetting.headline, *forgetting.sentences]).lower()
    alone = "of 1 row of water" if labels else "the loss on water has no interval: there is only one row"
    assert alone in text


def test_a_data_set_that_is_gone_at_the_start_is_told(home: Home, small_suite: None) -> None:
    fields = QUICK | {"probes": True, "max_steps": 2, "sample_prompts": 0}
    job = make_job(home, "run", probe_datasets=["a", "b"], **fields)
    job.spec["probes"] = []
    train_job.run(job)
    assert any(
        "2 of the probe data sets no longer exist" in event["message"] for event in events(job, "alert")
    )


def test_the_time_before_a_launch_counts_them(home: Home) -> None:
    write_labelled(home, "Water", 30)

    def seconds(probes: list[Any]) -> float:
        job = make_job(home, f"ask{len(probes)}", probes=True, sample_prompts=0)
        job.config = {
            "config": job.config, "fingerprint": "rows", "row": 0, "past": [], "probes": probes,
            "split": {"split_seed": 0, "validation_size": 0.1, "test_size": 0.1},
        }  # fmt: skip
        return float(preview_query.run(job).time.counted_seconds)

    assert seconds([source("Water")]) > seconds([])
