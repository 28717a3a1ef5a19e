"""A real engine and its workers: what people corrected becomes rows, a version of the data, a run, a version
of the model; one is promoted by a person, the next one declined."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from store.core.job_folder import JobDir
from store.data import datasets
from store.data.dataset_files import load_rows
from store.http.client import Client
from store.registry import model_versions
from store.retraining import improvements
from store.retraining.schemas import Improvement, ReusedJudgingRows
from store.runs import runs
from tests.engine.houses import RUN, House, write_corrections, write_sums

SECONDS = 90


def reached(client: Client, name: str, state: str) -> Improvement:
    deadline = time.monotonic() + SECONDS
    while (present := improvements.get(client, name)).state != state:
        assert present.state != "failed" or state == "failed", present.trouble
        assert time.monotonic() < deadline, present
        time.sleep(0.1)
    return present


@pytest.fixture
def house(tmp_path: Path) -> Any:
    built = House(tmp_path / "home")
    yield built
    built("down")


def test_the_whole_chain_to_a_promotion_and_to_a_refusal(house: House, tmp_path: Path) -> None:
    write_sums(tmp_path / "sums.jsonl")
    (tmp_path / "run.yaml").write_text(RUN)
    house("import", str(tmp_path / "sums.jsonl"), "--name", "Sums")
    house("launch", str(tmp_path / "run.yaml"), "--wait")
    house("model", "register", "First", "--name", "sums")
    house("model", "promote", "sums@1", "production", "--reason", "The first.")
    client = house.client
    settings = {"models": [{"name": "sums", "routes": [{"subject": "sums@1"}]}]}
    client.command("make_endpoint", {"name": "Desk", "start": False, **settings})
    (endpoint_id,) = client.people.query("SELECT endpoint_id FROM endpoint").column(0).to_pylist()
    write_corrections(house.home, endpoint_id, 44)
    while client.people.query("SELECT count(*) FROM feedback").column(0)[0].as_py() < 44:
        time.sleep(0.1)
    improved = house.ask(
        "improve", "sums", "--feedback", "Desk", "--metric", "perplexity", "--margin", "1000"
    )
    facts = improved["facts"]
    assert (improved["state"], facts["version"], facts["holder"]) == ("deciding", "sums@2", "sums@1")
    assert facts["rows"]["train"] + facts["rows"]["held_out"] == facts["rows"]["asked"] == 44
    assert (facts["rows"]["held_out"], facts["rows"]["held_out_random"]) == (13, False)
    assert [check["title"][-8:] for check in facts["gate"]["checks"]] == ["old rows", "new rows"]
    assert facts["gate"]["answer"] == "passed"
    _check_deal(house, client, facts)
    house("improvement", "promote", improved["name"])
    assert model_versions.alias_standing(client, improved["model_id"], "production") == 2
    assert improvements.get(client, improved["name"]).state == "promoted"

    # the next one is judged by its own rows and by those that judged this one; it need not go on
    write_corrections(house.home, endpoint_id, 30, first=44)
    while client.people.query("SELECT count(*) FROM feedback").column(0)[0].as_py() < 74:
        time.sleep(0.1)
    begun = house.ask("improve", "sums", "--feedback", "Desk", "--no-wait")
    while "rows" not in (rows := improvements.get(client, begun["improvement"]).facts):
        time.sleep(0.1)
    house("improvement", "stop", begun["improvement"])
    assert rows["rows"].again == ReusedJudgingRows(rows=13, times={"1": 13}, random=0, left_out={})
    assert rows["gathered_beside"] == "sums@2"

    # once more, with rows of a data set: all of the old rows, which it has already
    waits = house.ask("improve", "sums", "--dataset", "Sums", code=7)
    assert (waits["state"], waits["failed_at"]) == ("waiting", "gathering")
    assert "0 of 80 new rows are usable; at least 20 are needed" in waits["trouble"]["message"]
    house("improvement", "resume", waits["name"])
    again = reached(client, waits["improvement_id"], "waiting")
    assert again.facts["gather_job"] != waits["facts"]["gather_job"]
    house("improvement", "stop", waits["name"])


def _check_deal(house: House, client: Client, facts: dict[str, Any]) -> None:
    """No row that judged is trained on; the run differs in its rows and name alone."""
    old, new = runs.get_run(client, "First"), runs.get_run(client, facts["run_id"])
    assert new.config["parent"] == old.run_id
    differ = {name for name, value in old.config.items() if new.config[name] != value}
    assert differ <= {
        "name",
        "notes",
        "dataset",
        "parent",
        "split_by",
        "validation_size",
        "test_size",
        "split_seed",
    }
    texts = {}
    for run in (old, new):
        split = pq.read_table(JobDir(house.home.jobs / run.run_id).split)
        rows = load_rows(house.home, run.data_fingerprint, ["text"], split["row_id"].to_numpy())
        texts[run.run_id] = dict(zip(rows["text"].to_pylist(), split["split"].to_pylist(), strict=True))
    before, after = texts[old.run_id], texts[new.run_id]
    assert {text: after[text] for text in before} == before
    gathered = datasets.get_dataset(client, facts["rows_dataset_id"])
    table = load_rows(house.home, gathered.fingerprint, ["text", "part"])
    parts = dict(zip(table["text"].to_pylist(), table["part"].to_pylist(), strict=True))
    assert {text for text in after if text not in before} == {
        text for text, part in parts.items() if part == "train"
    }
    assert model_versions.get_version(client, "sums@2").run_id == new.run_id
