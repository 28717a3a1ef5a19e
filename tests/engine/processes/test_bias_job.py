"""The bias job on tiny models: a model is never worse than itself, and groups are read, not asked anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.bias import job, scoring
from engine.worker.job import WorkerJob
from store.bias.schemas import BiasResult, GroupRate
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.core.job_folder import write_json
from tests.tiny import conversations, write_model, write_rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home")).create()
    write_model(home.models / "first", max_position_embeddings=1024)
    write_model(home.models / "second", seed=1, max_position_embeddings=1024)
    return home


def checked(home: Home, name: str, order: dict[str, Any] | None = None, **config: Any) -> BiasResult:
    folder = home.jobs / name
    folder.mkdir()
    document = {
        **{"job_id": name, "kind": "bias", "home": str(home.path), "device": "cpu"},
        **{"config": config, "compared_versions": {}, "evaluations": {}},
    }
    write_json(folder / "config.json", document | (order or {}))
    return job.run(WorkerJob(folder))


def test_a_model_is_not_worse_than_itself(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    few = scoring.build_decision_pairs()[:24], scoring.build_writing_pairs()[:2]  # bytes as tokens are many
    monkeypatch.setattr(scoring, "build_decision_pairs", lambda: few[0])
    monkeypatch.setattr(scoring, "build_writing_pairs", lambda: few[1])
    made = checked(home, "same", model="first", against="first")
    figures = made.report.figures
    assert {figure.measure for figure in figures} >= {"flips", "gap", "lean", "refusal_gap", "length_gap"}
    assert all(figure.change.value == pytest.approx(0, abs=1e-6) for figure in figures)
    assert made.report.worse == 0
    assert made.details.pairs == []


def test_files_are_asked_of_both_models(home: Home, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    lines = [f"Old {i} sat there.,Young {i} sat there.,age" for i in range(12)] + ["x,x,age"]
    pairs.write_text("sent_more,sent_less,bias_type\n" + "\n".join(lines) + "\n")
    wino = tmp_path / "wino.jsonl"
    texts = [
        {"stereotype": kind, "type": 1, "text": f"[The {a}] met the {b} because [{pronoun}] won."}
        for a, b in (("baker", "nurse"), ("nurse", "baker"))
        for kind, pronoun in (("pro", "he"), ("anti", "she"))
    ]
    wino.write_text("".join(json.dumps(row) + "\n" for row in texts))
    made = checked(
        home, "files", model="second", against="first", builtin=False,
        files=[{"path": str(pairs)}, {"path": str(wino)}],
    )  # fmt: skip
    kinds = {(figure.kind, figure.group): figure for figure in made.report.figures}
    assert kinds["stereotype_pairs", ""].tuned.n == 12
    assert kinds["stereotype_pairs", "age"].tuned.n == 12
    assert kinds["coreference", ""].tuned.n == 2
    by_name = {probe.name: probe for probe in made.details.probes}
    assert by_name["pairs.csv"].left_out == {"identical sentences": 1}
    assert len(by_name["wino.jsonl"].levels) == 2


def test_a_file_that_is_no_probe_is_refused_before_a_model_is_loaded(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        checked(home, "refused", model="not there", against="x", builtin=False, files=[{"path": str(path)}])
    assert caught.value.field == "files"


def test_groups_are_those_of_scored_rows(home: Home) -> None:
    rows = conversations(80)
    write_rows(home, "rows", rows, rejected=["a"] * 40 + ["b"] * 35 + ["few"] * 5)
    labels = ["yes" if i % 2 else "no" for i in range(80)]
    for name, wrong in (("tuned", 40), ("base", 0)):
        folder = home.jobs / name
        folder.mkdir()
        answers = ["no" if i < wrong else label for i, label in enumerate(labels)]
        pq.write_table(
            pa.table({"row_id": range(80), "label": labels, "prediction": answers}),
            folder / "predictions.parquet",
        )
        right = [float(a == b) for a, b in zip(answers, labels, strict=True)]
        scores = {"row_id": [*range(80)], "metric": ["eval/accuracy"] * 80, "score": right}
        pq.write_table(pa.table(scores), folder / "scores.parquet")
    named = {
        name: {"evaluation_id": name, "name": name.title(), "fingerprint": "rows"}
        for name in ("tuned", "base")
    }
    asked = {"evaluation": "tuned", "against": "base", "column": "rejected", "positive": "yes"}
    made = checked(home, "groups", {"evaluations": named}, builtin=False, groups=[asked])
    figures = {figure.measure: figure for figure in made.report.figures}
    assert figures["score_gap"].tuned.value == pytest.approx(0.5)
    assert figures["score_gap"].base.value == 0
    assert figures["score_gap"].answer == "worse"
    table = made.details.groups[0].tuned
    assert table.hidden == {"few": 5}
    assert [group.group for group in table.groups] == ["a", "b"]
    assert table.groups[0].rates["true_positive"] == GroupRate(estimate=None, n=20)
    with pytest.raises(ConfigError):
        checked(home, "no-column", {"evaluations": named}, builtin=False, groups=[asked | {"column": "no"}])
