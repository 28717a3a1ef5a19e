"""What new requests are held against: held-out rows of a data set, rows and answers of an evaluation."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.monitoring import watch_job
from engine.monitoring.measured_requests import read_logged_requests
from engine.monitoring.watch_job import compute_repetition
from engine.worker.job import WorkerJob
from store.core.errors import DataError
from store.core.home import Home
from store.core.monitoring_schemas import ReferenceFacts
from store.monitoring.config import WATCHED_NAMES
from tests.unit.data_job import import_file
from tests.unit.monitoring.texts import bank_questions


def learn(home: Home, source: str, source_id: str, **order: object) -> ReferenceFacts:
    folder = home.jobs / f"watch-{source}"
    folder.mkdir()
    config = {"endpoint_id": "e", "revision": 0, "reference": True, "source": source, "source_id": source_id}
    config |= {"source_name": "Bank", "rows": 100, "watched": list(WATCHED_NAMES)}
    document = {"job_id": folder.name, "kind": "watch", "home": str(home.path), "config": config, **order}
    (folder / "config.json").write_text(json.dumps(document))
    result = watch_job.run(WorkerJob(folder))
    assert (folder / "fit.npz").exists()
    assert result["reference"] is not None
    return result["reference"]


def test_of_a_data_set_what_is_asked_in_held_out_rows_is_the_reference(home: Home) -> None:
    texts = bank_questions(np.random.default_rng(0), 400)
    path = home.uploads / "rows.jsonl"
    rows = [
        {"prompt": f"{text} ({place})", "completion": f"Answer {place}."} for place, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fingerprint = str(import_file(home, path).result["fingerprint"])
    dataset = {"dataset_id": "d", "name": "Bank", "kind": "chat", "fingerprint": fingerprint}
    split = {
        "split_seed": 0,
        "validation_size": 0.1,
        "test_size": 0.3,
        "split_by": "random",
        "split_column": None,
    }
    facts = learn(home, "dataset", "d", dataset=dataset, split=split)
    assert facts.rows == 100
    assert facts.source == "100 held-out rows of Bank"
    assert facts.values["input_length"].n == 100
    assert facts.values["input_distance"].n == 50  # the other half is what it is measured from
    assert facts.values["output_length"].why  # people's answers are no model's


def test_of_an_evaluation_its_answers_are_the_reference_too(home: Home) -> None:
    texts = bank_questions(np.random.default_rng(1), 90)
    labels = ["card" if "card" in text else "other" for text in texts]
    folder = home.jobs / "job-evaluated"
    folder.mkdir()
    columns = {"prompt": texts, "prediction": labels, "probability": [0.9] * 90}
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    facts = learn(home, "evaluation", "job-evaluated")
    assert facts.values["output_label"].n == 45
    assert set(facts.values["output_label"].names) == {"card", "other"}
    assert facts.values["confidence"].n == 90
    (folder / "predictions.parquet").unlink()
    (home.jobs / "watch-evaluation").rename(home.jobs / "before")
    with pytest.raises(DataError, match="deleted"):
        learn(home, "evaluation", "job-evaluated")


def test_the_last_question_of_a_conversation_is_what_was_asked() -> None:
    parts = [{"type": "text", "text": "Read this."}, {"type": "image_url", "image_url": {"url": "x"}}]
    turns = [
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "A?"},
            {"role": "assistant", "content": "B"},
        ],
        [{"role": "user", "content": parts}],
        [{"role": "system", "content": "only this"}],
        [],
    ]
    nothing = pa.nulls(len(turns))
    names = ("input_characters", "output", "output_characters", "label", "confidence", "mean_logprob")
    table = pa.table({"messages": [json.dumps(each) for each in turns], **dict.fromkeys(names, nothing)})
    assert read_logged_requests(table).inputs == ["A?", "Read this.", "only this", None]


def test_repetition_counts_triples_that_came_before() -> None:
    assert compute_repetition("one two three four") == 0
    assert compute_repetition("no no no no no no no no") == pytest.approx(5 / 6)
    assert compute_repetition("") == 0
