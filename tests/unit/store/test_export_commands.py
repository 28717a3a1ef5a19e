"""Exports of models: what is queued, what is refused by name, what is kept, and what a kill leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine import job_handlers
from engine.server.job_outcomes import clear_unfinished_output
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.export_schemas import ModelExportRow, ParityStatus
from store.core.job_folder import JobDir, read_json, write_json
from store.db.records import to_json
from store.export import exports
from store.export import text as export_text
from store.jobs import job_queue
from store.runs import runs
from store.training.train_config import TrainConfig
from tests.export_samples import estimate, export_result, parity_report
from tests.unit.desk import START, Desk
from tests.unit.store_samples import serving
from tunebench.cli import cli
from tunebench.commands import export as model_export_cli
from tunebench.terminal.output import CONDITION, OK, USAGE


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.database.close()


def finished(desk: Desk, **config: Any) -> str:
    """A run on D that left a model."""
    if not desk.home.rows("f").exists():
        desk.add_dataset()
    asked = TrainConfig(model="m", dataset="D", **config).model_dump(exclude_none=True)
    run_id = desk("launch", **asked)["run_id"]
    desk.end(run_id, "finished")
    folder = JobDir(desk.home.jobs / run_id)
    folder.path.mkdir(exist_ok=True)
    write_json(folder.config, {"config": {}})
    return run_id


def kept(desk: Desk, job_id: str, **changes: Any) -> ModelExportRow:
    """The job has done its work."""
    job = desk.job(job_id)
    result = export_result(job.config["form"], **changes)
    (desk.home.path / result.folder).mkdir(parents=True, exist_ok=True)
    job_handlers.write_spec(desk.database, desk.home, job)
    with desk.database.transaction() as tx:
        job_handlers.store_result(tx, desk.home, job, result, START)
    desk.end(job_id, "finished")
    return exports.get(desk.database, job_id)


def add_version(desk: Desk, run_id: str | None) -> None:
    source = {"kind": "run", "run_id": run_id, "run_name": "R", "checkpoint": "tuned", "path": None}
    with desk.database.transaction() as tx:
        tx.execute("INSERT INTO registered_model VALUES ('m1', 'Bot', '', 'p', 'Ada', now()::TIMESTAMP, 3)")
        tx.execute(
            "INSERT INTO model_version VALUES"
            " ('m1', 3, ?, ?, 'm', true, 'versions/m1/3', 'x', ?, '', 'p', 'Ada', now()::TIMESTAMP)",
            [to_json(source), run_id, to_json([])],
        )


def test_an_export_is_queued_kept_and_deleted_with_its_files(desk: Desk) -> None:
    run_id = finished(desk)
    job = desk.job(desk("export_model", subject="LoRA on D", form="gguf-q8_0")["job_id"])
    assert (job.kind, job.lane, job.title) == ("model_export", "beside", "LoRA on D as GGUF Q8_0")
    assert (job.config["subject"], job.config["dataset"]) == (run_id, "data-D")
    assert exports.unfinished(desk.database, run_id)[0].job_id == job.job_id
    with pytest.raises(StateError):
        desk("delete_dataset", dataset="D")
    row = kept(desk, job.job_id)
    spec = read_json(desk.home.jobs / job.job_id / "config.json")
    export = spec["export"]
    assert (export["run_id"], export["run_name"], export["version"]) == (run_id, "LoRA on D", None)
    assert (export["card"]["reference"], export["card"]["registered"]) == ("LoRA on D", False)
    assert [entry["name"] for entry in export["card"]["data"]] == ["D"]
    assert spec["dataset"]["fingerprint"] == "f"
    assert row.parity == parity_report()
    assert (row.subject, row.name, row.status) == ("run", "LoRA on D", "passed")
    assert exports.of_run(desk.database, run_id) == [row]
    desk("delete_export", export=job.job_id)
    assert exports.of_run(desk.database, run_id) == []
    assert not (desk.home.path / row.folder).exists()


def test_a_version_is_exported_by_its_name_and_outlives_its_run(desk: Desk) -> None:
    add_version(desk, finished(desk))
    job = desk.job(desk("export_model", subject="Bot@3", form="merged")["job_id"])
    assert job.config["subject"] == "Bot@3"
    row = kept(desk, job.job_id)
    assert (row.subject, row.name, row.model_id, row.version) == ("version", "Bot@3", "m1", 3)
    assert exports.of_version(desk.database, "m1", 3) == [row]
    with pytest.raises(ConfigError, match="no checkpoints") as caught:
        desk("export_model", subject="Bot@3", form="merged", checkpoint="best")
    assert caught.value.field == "checkpoint"
    with pytest.raises(ConfigError, match="no registered model Bot@4") as gone:
        desk("export_model", subject="Bot@4", form="merged")
    assert gone.value.field == "subject"


def test_an_export_and_a_folder_are_verified_by_what_the_store_noted(desk: Desk) -> None:
    run_id = finished(desk)
    made = desk("export_model", subject="LoRA on D", form="merged", part="validation")["job_id"]
    files = [{"path": "manifest.json", "bytes": 9, "sha256": "a" * 64}]
    row = kept(desk, made, files=files)
    noted = {"form": "merged", "gguf": None, "folder": row.folder, "sha256": "a" * 64}
    own = desk.job(desk("verify_model", subject="LoRA on D", export=made)["job_id"])
    assert (own.title, own.config["form"]) == ("Merged compared with LoRA on D", "merged")
    assert (own.config["dataset"], own.config["part"]) == ("data-D", "validation")  # as it was made
    job_handlers.write_spec(desk.database, desk.home, own)
    spec = read_json(desk.home.jobs / own.job_id / "config.json")
    assert spec["verify"] == {"path": row.folder, "gguf": "gguf-q8_0", "manifests": [noted]}
    assert spec["export"]["run_id"] == run_id
    other = desk.job(desk("verify_model", subject=run_id, path="/came/back")["job_id"])
    assert (other.title, other.config["part"]) == ("back compared with LoRA on D", "test")
    assert [job.job_id for job in exports.verifications(desk.database, made)] == [own.job_id]
    assert exports.list_manifests(desk.database, run_id, "best") == []
    with pytest.raises(NotFoundError, match="Export 'nothing' not found"):
        desk("verify_model", subject=run_id, export="nothing")
    with pytest.raises(ConfigError, match="has no adapter"):
        desk("verify_model", subject=finished(desk, method="full"), path="/a", form="adapter")


@pytest.mark.parametrize(
    ("config", "form", "why"),
    [
        ({"method": "prompt_tuning"}, "merged", "can't be merged"),
        ({"method": "bottleneck"}, "gguf-f16", "can't be merged"),
        ({"method": "full"}, "adapter", "has no adapter"),
        ({"task": "classification"}, "gguf-q8_0", "classification head"),
        ({"task": "classification"}, "compressed-tensors", "classification head"),
    ],
)
def test_a_form_that_cannot_hold_the_model_is_refused(
    desk: Desk, config: dict[str, Any], form: str, why: str
) -> None:
    run_id = finished(desk, **config)
    with pytest.raises(ConfigError, match=why) as caught:
        desk("export_model", subject=run_id, form=form)
    assert caught.value.field == "form"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"form": "gguf"}, "form"),
        ({"form": "merged", "gguf": "gguf-f16"}, "gguf"),
        ({"form": "ollama", "gguf": "merged"}, "gguf"),
        ({"form": "merged", "hub": "model"}, "hub"),
        ({"form": "merged", "checkpoint": "base"}, "checkpoint"),
    ],
)
def test_a_bad_field_is_named(desk: Desk, body: dict[str, Any], field: str) -> None:
    run_id = finished(desk)
    with pytest.raises(ConfigError) as caught:
        desk("export_model", subject=run_id, **body)
    assert caught.value.field == field


def test_what_a_kill_leaves_after_the_rename_is_removed(desk: Desk) -> None:
    job = desk.job(desk("export_model", subject=finished(desk), form="merged")["job_id"])
    folder = JobDir(desk.home.jobs / job.job_id)
    folder.path.mkdir()
    for name in ("left", "others"):
        (desk.home.exports / name).mkdir()
    (desk.home.exports / "left.zip").write_bytes(b"zip")
    other = desk("export_model", subject=job.config["subject"], form="merged")["job_id"]
    kept(desk, other, name="others")
    write_json(folder.published, {"exports": ["left", "left.zip", "others"]})
    clear_unfinished_output(desk.database, desk.home, job)
    assert [path.name for path in desk.home.exports.iterdir()] == ["others"]  # which another export is


@pytest.fixture
def command(desk: Desk) -> Iterator[Callable[..., Result]]:
    runner = CliRunner(env={"TUNEBENCH_HOME": str(desk.home.path)})
    with serving(desk.home, desk.database, desk.commands):
        yield lambda *words: runner.invoke(cli, [str(word) for word in words])


def test_the_command_line_exits_with_7_where_parity_failed(
    desk: Desk, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(desk)
    verdicts = iter(["passed", "failed"])

    def done(get: Callable[[], Any], title: str) -> Any:
        status = next(verdicts)
        parity = parity_report(status, reasons=["The weight matrix x is all zero."] * (status == "failed"))
        kept(desk, get().job_id, name=status, parity=parity)
        return get()

    monkeypatch.setattr(model_export_cli, "watch_job", done)
    out = desk.home.path.parent / "out"
    passed = command("model", "export", "LoRA on D", "--form", "gguf-q8_0", "--out", out)
    assert passed.exit_code == OK
    assert out.is_dir()
    assert command("model", "export", "LoRA on D", "--form", "merged", "--out", out).exit_code == USAGE
    assert "53% of the size of the 16-bit weights, no significant change in perplexity" in passed.output
    failed = command("model", "export", "LoRA on D", "--form", "merged")
    assert failed.exit_code == CONDITION
    assert "is all zero" in failed.output
    assert command("model", "export", "LoRA on D", "--form", "gguf").exit_code == USAGE
    listed = command("model", "exports", "LoRA on D")
    assert listed.exit_code == OK
    assert "gguf-q8_0" in listed.output
    kl = exports.recent(desk.database)[0].parity.mean_kl
    assert kl
    assert f"{kl.value:.3g} ({kl.low:.3g} to {kl.high:.3g})" in " ".join(listed.output.split())
    assert "gguf-q4_k_m" in command("model", "forms").output
    job_id = exports.recent(desk.database)[0].job_id
    assert command("model", "delete-export", job_id).exit_code == OK
    with pytest.raises(NotFoundError):
        exports.get(desk.database, job_id)


def test_the_command_line_verifies_a_folder_and_says_how_many_rows_it_takes(
    desk: Desk, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finished(desk)
    verdicts: Iterator[ParityStatus] = iter(["passed", "untold", "failed"])
    cause = "config.json: eos_token_id is 7 in the export, 2 in the model."

    def done(get: Callable[[], Any], title: str) -> Any:
        status = next(verdicts)
        parity = parity_report(status, reasons=[cause] * (status == "failed"))
        result = {"form": "merged", "path": "x", "subject": "LoRA on D", "notices": [], "seconds": 1.0}
        with desk.database.transaction() as tx:
            job_queue.claim(tx, get().job_id, "cpu", START)
            job_queue.finish(tx, get().job_id, "finished", START, result={**result, "parity": parity})
        return get()

    monkeypatch.setattr(model_export_cli, "watch_job", done)
    passed = command("model", "verify", tmp_path, "--against", "LoRA on D")
    assert passed.exit_code == OK
    assert "Passing requires 149 rows" in passed.output
    assert "Merged compared with LoRA on D: it matches the model" in passed.output
    assert desk.job(job_queue.recent_jobs(desk.database)[0].job_id).config["path"] == str(tmp_path)
    untold = command("model", "verify", tmp_path, "--against", "LoRA on D", "--max-rows", 8)
    assert untold.exit_code == OK
    assert "8 are inconclusive" in " ".join(untold.output.split())
    failed = command("model", "verify", tmp_path, "--against", "LoRA on D")
    assert failed.exit_code == CONDITION
    assert cause in " ".join(failed.output.split())
    assert command("model", "verify", tmp_path, "--against", "nobody").exit_code == USAGE


def test_without_a_whole_model_that_passed_the_next_possible_form_is_named(desk: Desk) -> None:
    run_id = finished(desk)
    for form in ("adapter", "gguf-q8_0"):
        job_id = desk("export_model", subject=run_id, form=form)["job_id"]
        kept(desk, job_id, parity=parity_report("passed" if form == "adapter" else "failed"))
    rows = exports.of_run(desk.database, run_id)
    assert (
        export_text.describe_recommendation(rows) == "No full-model export has passed yet. Try Merged next."
    )
    failed = export_text.describe_recommendation(rows, ["adapter", "gguf-q8_0"])
    assert failed == "No full-model export has passed yet. See the reasons for each failure below."
    alone = export_text.describe_recommendation(rows, ["adapter"])
    assert alone == "Recommended: Adapter. It passed, and this method can't be merged into the weights."


def test_the_smallest_that_passed_is_recommended(desk: Desk) -> None:
    run_id = finished(desk)
    sizes = {"adapter": 5, "gguf-f16": 270, "gguf-q8_0": 143, "gguf-q2_k": 60}
    for form, size in sizes.items():
        job_id = desk("export_model", subject=run_id, form=form)["job_id"]
        parity = parity_report("failed" if form == "gguf-q2_k" else "passed")
        kept(desk, job_id, model_bytes=size * 1_000_000, parity=parity)
    rows = exports.of_run(desk.database, run_id)
    best = export_text.find_recommended(rows)
    assert best
    assert best.form == "gguf-q8_0"
    sentence = export_text.describe_recommendation(rows)
    assert sentence.startswith(
        "Recommended: GGUF Q8_0: 53% of the size of the 16-bit weights, no significant change in"
    )
    worse = parity_report(figures=[replace(parity_report().figures[0], **vars(estimate(0.5, 0.1)))])
    assert (
        export_text.describe_change(replace(best, parity=worse)) == "perplexity worse by 0.5 (+0.4 to +0.6)"
    )
    lost = export_text.describe_recommendation([replace(best, parity=worse)])
    assert lost.startswith(
        "Exports that passed have significantly worse metrics; GGUF Q8_0: perplexity worse by 0.5"
    )
    assert lost.endswith("Try Merged next.")
    bare = parity_report(figures=[replace(parity_report().figures[0], low=None, high=None)])
    blank = export_text.describe_change(replace(best, parity=bare))
    assert blank == "change in perplexity inconclusive"
    assert job_queue.get_job(desk.database, best.job_id).kind == exports.KIND
    assert runs.get_run(desk.database, run_id).status == "finished"


def test_the_columns_of_the_forms_never_run_together() -> None:
    listed = json.loads(CliRunner().invoke(cli, ["model", "forms", "--json"]).stdout)["forms"]
    lines = CliRunner().invoke(cli, ["model", "forms"]).stdout.splitlines()[1:]
    assert len(lines) == len(listed) > 9
    for line, row in zip(lines, listed, strict=True):
        assert line.startswith(f"{row['form']} ")
