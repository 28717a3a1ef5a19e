"""However the stream of events is cut, repeated or torn, the store is the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.core.job_folder import read_events
from store.db.database import Database
from store.jobs import metric_points
from store.jobs.event_ingest import EventBatch, ingest, ingest_many
from store.jobs.schemas import MetricSummary
from tests.unit.ingest_samples import content, event, new_job


def summaries(database: Database, job_id: str) -> list[MetricSummary]:
    return [replace(row, run_id="") for row in metric_points.summaries(database, [job_id])]


numbers = st.one_of(
    st.floats(width=32),
    st.integers(-(10**20), 10**20),
    st.sampled_from([math.nan, math.inf, -math.inf, 10**400]),
)
values = st.dictionaries(
    st.sampled_from(["train/loss", "eval/loss", "ünï/code"]),
    st.one_of(numbers, st.none(), st.booleans()),
    max_size=3,
)
steps = st.one_of(st.integers(0, 12), st.sampled_from([-1, 2**53, 1.5, None, "3"]))
events = st.one_of(
    st.builds(lambda s, v: event("metrics", step=s, values=v), steps, values),
    st.builds(lambda s: event("rewind", step=s), steps),
    st.builds(lambda s: event("rewind", step=s, prefix="eval/"), steps),
    st.builds(
        lambda s: event("status", status=s),
        st.sampled_from(["preparing", "training", "evaluating", "finished", "nonsense"]),
    ),
    st.builds(
        lambda d, e: event("progress", done=d, total=10, unit="steps", message="Ü", eta_seconds=e),
        st.integers(0, 10),
        st.one_of(st.none(), st.floats(0, 1e6)),
    ),
    st.builds(
        lambda k, v: event("facts", facts={k: v}),
        st.sampled_from("abc"),
        st.one_of(st.none(), st.floats(), st.text(max_size=3)),
    ),
    st.builds(lambda m: event("alert", level="warning", message=m), st.sampled_from(["one", "two"])),
    st.just(event("unheard of")),
)
lines = st.one_of(
    events.map(lambda e: json.dumps(e).encode()),
    st.sampled_from(
        [b'{"type": "metr', b"\xff\xfe", b"[1]", b"null", b"", b"{}", b"\x00\x00", b'{"a":1},{"b":2}']
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawing=st.data(), stream=st.lists(lines, max_size=25))
def test_any_cut_of_the_stream_gives_the_same_store(
    database: Database, tmp_path: Path, drawing: st.DataObject, stream: list[bytes]
) -> None:
    raw = b"".join(line + b"\n" for line in stream)
    file = tmp_path / "events.jsonl"
    whole, parts = new_job(database), new_job(database)
    file.write_bytes(raw)
    taken, offset = read_events(file, 0)
    ingest(database, whole, taken, offset, 0)

    cuts = sorted(drawing.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    offset = 0
    for end in [*cuts, len(raw)]:
        file.write_bytes(raw[:end])  # the worker has written so much
        taken, new = read_events(file, offset, drawing.draw(st.integers(1, 400)))
        ingest_many(database, [EventBatch(parts, taken, new, offset)])
        if drawing.draw(st.booleans()):  # an engine that was killed reads the same again
            ingest_many(database, [EventBatch(parts, taken, new, offset)])
        offset = new if new > offset else offset
    while True:
        taken, new = read_events(file, offset)
        if new == offset:
            break
        ingest(database, parts, taken, new, offset)
        offset = new
    assert content(database, parts) == content(database, whole)
    for ours, theirs in zip(summaries(database, parts), summaries(database, whole), strict=True):
        for key, value in vars(theirs).items():
            if key == "sum" and value is not None:  # the order of adding rounds differently
                assert getattr(ours, key) == pytest.approx(
                    value, rel=1e-9, abs=1e-6, nan_ok=True
                ) or value in (
                    math.inf,
                    -math.inf,
                )
            else:
                assert getattr(ours, key) == value, key


def test_a_line_without_an_end_is_taken_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that writes gigabytes without a line break must not have the engine read them at once."""
    monkeypatch.setattr("store.core.job_folder.MAX_LINE", 3_000)
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * 10_000)
    offset, pieces = 0, 0
    while True:
        taken, new = read_events(path, offset, limit=1_000)
        if new == offset:
            break
        assert new - offset <= 4_000
        assert [event["type"] for event in taken] == ["torn"]
        offset, pieces = new, pieces + 1
    assert pieces == 2
    with open(path, "ab") as file:
        file.write(b'\n{"type": "status", "status": "training"}\n')
    taken, _ = read_events(path, offset, limit=9_000)
    assert [event["type"] for event in taken] == ["torn", "status"]
