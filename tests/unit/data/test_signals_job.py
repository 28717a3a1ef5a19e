"""The job `profile`: what it leaves, what it takes over from the version before, how it ends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data import measurement_job
from engine.data.measurement_job import compute_column_figures
from engine.worker.job import JobCancelled
from engine.worker.progress import PhaseReporter
from store.core.home import Home
from store.data.signals import GROUPS, Signal
from tests.unit.profile_job import job_of, rows_of, sidecar


@pytest.mark.parametrize("group", ["text", "privacy"])
def test_the_sidecar_has_a_row_for_every_row_and_the_types_of_the_contract(home: Home, group: str) -> None:
    job = job_of(home, rows_of(home, 30), group)
    result = measurement_job.run(job)
    table = sidecar(job)
    assert table["row_id"].to_pylist() == list(range(30))
    assert table.column_names == ["row_id", *(signal.column for signal in GROUPS[group].signals)]
    kinds = {"number": (pa.int32(), pa.float32()), "flag": (pa.bool_(),), "category": (pa.string(),)}
    for signal in GROUPS[group].signals:
        assert table.schema.field(signal.column).type in kinds[signal.type], signal.column
    assert {key: result[key] for key in ("options", "row_count", "reused_count")} == {
        "options": {"endings": "open"} if group == "text" else {},
        "row_count": 30,
        "reused_count": 0,
    }
    assert set(result["figures"]) == set(table.column_names) - {"row_id"}
    assert [path.name for path in job.dir.path.glob("*parquet*")] == [f"{group}.parquet"]


def test_two_processes_measure_what_one_does(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.conversion.dataset_writer.FLUSH_ROWS", 50)  # row groups of 50
    fingerprint = rows_of(home, 170)
    alone = job_of(home, fingerprint, "privacy")
    measurement_job.run(alone)
    monkeypatch.setattr(measurement_job, "PARALLEL_ROWS", 1)
    monkeypatch.setattr(measurement_job.os, "sched_getaffinity", lambda _: {0, 1})
    together = job_of(home, fingerprint, "privacy")
    measurement_job.run(together)
    assert sidecar(together).equals(sidecar(alone))
    assert sidecar(alone)["ip"].to_pylist() == [1] * 170


def version_of(
    home: Home, old: str, new: str, fates: list[tuple[int | None, int | None, str]]
) -> dict[str, Any]:
    """The parent as the order tells of it, once the version's fates are written."""
    before, after, fate = zip(*fates, strict=True)
    table = {
        "parent_row_id": pa.array(before, pa.int64()),
        "row_id": pa.array(after, pa.int64()),
        "fate": fate,
    }
    pq.write_table(pa.table(table), home.fates(new))
    return {"dataset_id": "p", "fingerprint": old, "signals": {}}


@pytest.mark.parametrize("group", ["text", "privacy"])
def test_a_version_measures_only_what_it_changed_and_gets_the_same_table(home: Home, group: str) -> None:
    old = rows_of(home, 20)
    measured = job_of(home, old, group)
    options = measurement_job.run(measured)["options"]
    path = home.signals(old, group)
    path.parent.mkdir()
    table = sidecar(measured)
    spoilt = table.set_column(1, table.column_names[1], pa.array([77] * 20, table.schema.field(1).type))
    pq.write_table(spoilt, path)  # so that a value that was taken over can be told

    # row 3 was dropped, row 5 changed, and one was mixed in
    kept = [index for index in range(20) if index not in (3, 5)]
    new = rows_of(home, 20, changed=(4,), name="new.jsonl")
    place = {before: after for after, before in enumerate(index for index in range(20) if index != 3)}
    fates = [(index, place[index], "kept") for index in reversed(kept)]
    parent = version_of(
        home, old, new, [*fates, (3, None, "dropped"), (5, place[5], "changed"), (None, 19, "added")]
    )

    job = job_of(home, new, group, parent | {"signals": {group: options}})
    result = measurement_job.run(job)
    assert result["reused_count"] == 18
    first = sidecar(job).column(1).to_pylist()
    fresh = [place[5], 19]
    assert [index for index, value in enumerate(first) if value != 77] == fresh

    anew = job_of(home, new, group, parent | {"signals": {}})
    assert measurement_job.run(anew)["reused_count"] == 0
    names = table.column_names[2:]
    assert sidecar(job).select(names).take(fresh) == sidecar(anew).select(names).take(fresh)
    other = {"signals": {group: {"max_length": 8}}}  # measured with other options
    assert measurement_job.run(job_of(home, new, group, parent | other))["reused_count"] == 0


def test_reuse_gives_the_table_that_computing_anew_gives(home: Home) -> None:
    old = rows_of(home, 20)
    first = job_of(home, old, "text")
    options = measurement_job.run(first)["options"]
    path = home.signals(old, "text")
    path.parent.mkdir()
    (first.dir.path / "text.parquet").rename(path)
    new = rows_of(home, 20, changed=(7,), name="new.jsonl")
    fates = [(index, index, "changed" if index == 7 else "kept") for index in range(20)]
    parent = version_of(home, old, new, fates)
    reused = job_of(home, new, "text", parent | {"signals": {"text": options}})
    anew = job_of(home, new, "text", parent)
    assert measurement_job.run(reused)["reused_count"] == 19
    assert measurement_job.run(anew)["reused_count"] == 0
    assert sidecar(reused).equals(sidecar(anew))


def test_a_cancelled_profile_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_job, "BATCH_ROWS", 5)
    job = job_of(home, rows_of(home, 30), "text")
    from engine.data.signals import text_signals

    measure = text_signals.measure

    def stop_then_measure(batch: pa.RecordBatch, context: None) -> dict[str, Any]:
        job.cancel_requested.set()
        return measure(batch, context)

    monkeypatch.setattr(text_signals, "measure", stop_then_measure)
    with pytest.raises(JobCancelled):
        measurement_job.run(job)
    assert list(job.dir.path.glob("*parquet*")) == []


def test_progress_is_told_each_second_and_a_phase_at_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(home, rows_of(home, 3), "text")
    now = [100.0]
    monkeypatch.setattr("engine.worker.progress.time.monotonic", lambda: now[0])
    tell = PhaseReporter(job)
    for done in range(0, 50, 5):
        tell(done, 100)
        now[0] += 0.5
    tell(0, 4, "passes", "Second look")
    tell(0, 4, "passes", "Third look")
    events = [json.loads(line) for line in job.dir.events.read_text().splitlines()]
    progress = [event for event in events if event["type"] == "progress"]
    assert [event["done"] for event in progress] == [0, 10, 20, 30, 40, 0, 0]
    assert [(event["unit"], event["message"]) for event in progress[-2:]] == [
        ("passes", "Second look"),
        ("passes", "Third look"),
    ]
    job.cancel_requested.set()
    with pytest.raises(JobCancelled):
        tell(1, 4, "passes")


def test_a_job_tells_of_its_rows(home: Home) -> None:
    job = job_of(home, rows_of(home, 3), "privacy")
    measurement_job.run(job)
    events = [json.loads(line) for line in job.dir.events.read_text().splitlines()]
    assert {"done": 0, "total": 3, "unit": "rows"}.items() <= events[0].items()


def test_figures_are_those_of_numpy() -> None:
    values = np.random.default_rng(3).gamma(2, 50, 1001).astype(np.float32)
    values[:10] = 0
    flags = [True, False, None, True]
    table = pa.table(
        {
            "n": pa.array(values),
            "f": pa.array((flags * 251)[:1001], pa.bool_()),
            "c": pa.array((["en", "de", "en", None] * 251)[:1001]),
            "g": pa.array(([1, 1, None, 5] * 251)[:1001], pa.int64()),
        }
    )
    kinds = {"n": "number", "f": "flag", "c": "category", "g": "group"}
    summary = compute_column_figures(table, tuple(Signal(name, kind, "", "") for name, kind in kinds.items()))  # type: ignore[arg-type]
    assert summary["n"] == {
        "n": 1001,
        "min": 0.0,
        "mean": pytest.approx(values.mean(dtype=np.float64)),
        "median": pytest.approx(np.median(values)),
        "p95": pytest.approx(np.percentile(values, 95)),
        "max": pytest.approx(values.max()),
        "positive": 991,
    }
    assert summary["f"] == {"n": 751, "flagged": 501}
    assert summary["c"] == {"n": 751, "distinct": 2, "values": {"en": 501, "de": 250}}
    assert summary["g"] == {"n": 1001, "groups": 2, "rows": 751, "extra": 749}


def test_figures_of_nothing_measured_say_so() -> None:
    table = pa.table(
        {"n": pa.array([None, float("nan")], pa.float32()), "c": pa.array([None, None], pa.string())}
    )
    summary = compute_column_figures(table, (Signal("n", "number", "", ""), Signal("c", "category", "", "")))
    assert (summary["n"]["n"], summary["n"]["median"], summary["n"]["positive"]) == (0, None, 0)
    assert summary["c"] == {"n": 0, "distinct": 0, "values": {}}


def test_a_module_that_breaks_its_promise_is_found_out(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.data.signals import privacy_signals

    job = job_of(home, rows_of(home, 4), "privacy")
    measure = privacy_signals.measure
    monkeypatch.setattr(
        privacy_signals,
        "measure",
        lambda batch, context: {k: v[:-1] for k, v in measure(batch, context).items()},
    )
    with pytest.raises(AssertionError):
        measurement_job.run(job)
    assert not (job.dir.path / "privacy.parquet").exists()
