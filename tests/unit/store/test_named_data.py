"""Data sets that a run names beside its own: known by their ids, and kept while the run needs them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.job_handlers import write_spec
from engine.server import job_submission
from store.core.errors import ConfigError, StateError
from store.core.job_folder import read_json
from tests.unit.desk import Desk


def test_a_data_set_to_replay_is_named_by_its_id_and_kept_while_it_is_needed(desk: Desk) -> None:
    desk.add_dataset()
    general = desk.add_dataset("General", "g")
    run_id = desk("launch", dataset="D", replay_share=0.05, replay_dataset="General")["run_id"]
    assert desk.job(run_id).config["replay_dataset"] == general
    assert desk.asked[0]["config"]["replay_dataset"] == general
    with pytest.raises(StateError, match="is not over"):
        desk("delete_dataset", dataset="General")
    job = replace(desk.job(run_id), attempt=1)
    spec = read_json(write_spec(desk.database, desk.home, job).config)
    assert spec["replay"] == {"dataset_id": general, "name": "General", "kind": "chat", "fingerprint": "g"}
    desk.end(run_id, "cancelled")
    desk("delete_dataset", dataset="General")
    spec = read_json(write_spec(desk.database, desk.home, desk.job(run_id)).config)
    assert spec["replay"] is None
    with pytest.raises(ConfigError, match="There is no data set 'General'") as caught:
        desk("launch", dataset="D", replay_share=0.05, replay_dataset="General")
    assert caught.value.field == "replay_dataset"


def test_data_sets_that_are_probes_are_named_by_their_ids_and_kept_while_they_are_needed(desk: Desk) -> None:
    desk.add_dataset()
    general = desk.add_dataset("General", "g")
    run_id = desk("launch", dataset="D", probe_datasets="General, General")["run_id"]
    assert desk.job(run_id).config["probe_datasets"] == [general]
    with pytest.raises(StateError, match="is not over"):
        desk("delete_dataset", dataset="General")
    job = replace(desk.job(run_id), attempt=1)
    spec = read_json(write_spec(desk.database, desk.home, job).config)
    assert spec["probes"] == [{"dataset_id": general, "name": "General", "kind": "chat", "fingerprint": "g"}]
    desk.end(run_id, "cancelled")
    desk("delete_dataset", dataset="General")
    assert read_json(write_spec(desk.database, desk.home, desk.job(run_id)).config)["probes"] == []
    with pytest.raises(ConfigError, match="There is no data set 'General'") as caught:
        desk("launch", dataset="D", probe_datasets=["General"])
    assert caught.value.field == "probe_datasets"


@pytest.mark.parametrize("names", [1e-320, 5, {"a": 1}, [5], ["D", None]])
def test_probes_of_another_kind_are_refused_too(desk: Desk, names: object) -> None:
    with pytest.raises(ConfigError, match="give names of data sets") as caught:
        job_submission.make_body_completer(desk.database, desk.home)(
            "advice", {"config": {"probe_datasets": names}}
        )
    assert caught.value.field == "probe_datasets"


@pytest.mark.parametrize("config", [5, "x", [1], True])
def test_a_config_of_another_kind_is_refused_before_a_worker_is_asked(desk: Desk, config: object) -> None:
    complete = job_submission.make_body_completer(desk.database, desk.home)
    for name in ("preview", "advice"):
        with pytest.raises(ConfigError, match="give fields and values") as caught:
            complete(name, {"config": config, "fingerprint": "f"})
        assert caught.value.field == "config"


def test_how_old_rows_were_read_is_told_where_nobody_was_asked_of_their_columns(desk: Desk) -> None:
    first = desk.add_dataset()
    desk.add_dataset("D v2", "g")
    complete = job_submission.make_body_completer(desk.database, desk.home)

    def imported_as(stats: dict[str, object], fingerprint: str = "f", **source: str) -> object:
        with desk.database.transaction() as tx:
            tx.execute("UPDATE dataset SET stats = ?, source = ?", [json.dumps(stats), json.dumps(source)])
            tx.execute("UPDATE dataset SET parent_id = ? WHERE name = 'D v2'", [first])
        return complete("preview", {"config": {}, "fingerprint": fingerprint})["imported_as"]

    old = {"format": "messages", "columns": {}, "answers": None}
    assert imported_as({"reader": "jsonl"}, path="/a.jsonl") == old
    assert imported_as({"reader": "jsonl"}, "g", path="/a.jsonl") == old, (
        "a version's rows are those of its import"
    )
    assert imported_as({"reader": "jsonl", "left_out": {}}, path="/a.jsonl") is None, "it asked"
    assert imported_as({"reader": "text"}, path="/a.txt") is None
    assert imported_as({"reader": "jsonl"}, upload="r.jsonl", round="round-1") is None
    assert imported_as({}) is None
    assert imported_as({"reader": "jsonl"}, "unknown") is None


@pytest.mark.parametrize(("attempt", "resumes"), [(1, False), (2, True), (3, True), (7, True)])
def test_every_attempt_but_the_first_goes_on_from_the_checkpoint(
    desk: Desk, attempt: int, resumes: bool
) -> None:
    desk.add_dataset()
    job = replace(desk.job(desk("launch", dataset="D")["run_id"]), attempt=attempt)
    spec = read_json(write_spec(desk.database, desk.home, job).config)
    assert (spec["attempt"], spec["resume"]) == (attempt, resumes)
