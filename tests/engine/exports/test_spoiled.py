"""Exports that were spoiled on purpose: each is caught, with a reason that names what was done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from bench.made.spoiled_exports import SPOILED, SpoiledExport, spoiled_copy
from engine.export import format_writers, model_export
from engine.export.export_subject import ExportTask, resolve_subject
from engine.export.parity import checking
from engine.export.parity.inspection import inspect_files
from engine.export.tensor_manifest import FILE
from engine.worker.job import JobProgress, find_phase
from store.core.export_schemas import ParityReport, WrittenWeights
from store.core.home import Home
from store.core.job_folder import read_json
from store.export.config import ModelExport
from tests.engine.exporting import export_job, home_with_model, read_here, trained


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_with_model(tmp_path_factory.mktemp("spoiled"))
    trained(home, max_steps=10)
    return home


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read_here(monkeypatch)


@pytest.fixture(scope="module")
def exports(home: Home) -> dict[str, Path]:
    """Of each form one that is as it was written."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        read_here(monkeypatch)
        made = {form: model_export.run(export_job(home, form)) for form in ("merged", "adapter")}
    assert made["adapter"].parity.status == "passed"
    assert made["merged"].parity.status == "untold"
    return {form: home.path / result.folder for form, result in made.items()}


def checked(home: Home, folder: Path, form: str, written: WrittenWeights, aside: Path) -> ParityReport:
    job = export_job(home, form)
    config = ModelExport.parse(job.config)
    return checking.check(job, resolve_subject(job, config, aside), config, folder, aside, written)[0]


def parity(home: Home, exports: dict[str, Path], aside: Path, spoil: Callable[[Path], None]) -> ParityReport:
    """Of a merged export whose folder `spoil` has changed before it was read back."""
    spoiled = SpoiledExport("", "merged", spoil, "")
    folder = spoiled_copy(exports["merged"], aside / "export", spoiled)
    return checked(home, folder, "merged", read_json(exports["merged"] / FILE), aside)


@pytest.mark.parametrize("spoiled", SPOILED, ids=lambda spoiled: spoiled.title)
def test_files_name_what_was_done(
    home: Home, exports: dict[str, Path], tmp_path: Path, spoiled: SpoiledExport
) -> None:
    job = export_job(home, spoiled.form)
    config = ModelExport.parse(job.config)
    folder = spoiled_copy(exports[spoiled.form], tmp_path / "export", spoiled)
    subject = resolve_subject(job, config, tmp_path)
    seen = inspect_files(job, subject, config, folder, read_json(exports[spoiled.form] / FILE), tmp_path)
    assert not seen.exact
    assert [cause for cause in seen.causes if spoiled.cause in cause], seen.causes


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_files_as_they_were_written_differ_in_nothing(
    home: Home, exports: dict[str, Path], tmp_path: Path, form: str
) -> None:
    job = export_job(home, form)
    config = ModelExport.parse(job.config)
    written = read_json(exports[form] / FILE)
    seen = inspect_files(
        job, resolve_subject(job, config, tmp_path), config, exports[form], written, tmp_path
    )
    assert seen.causes == []
    assert seen.exact == (form == "adapter")  # a merge makes other tensors of the model's


@pytest.mark.parametrize(
    "title", ["another end in generation_config", "two rare tokens swapped", "vocabulary and embeddings cut",
              "other heads", "a tensor missing"],
)  # fmt: skip
def test_what_files_show_fails_whatever_the_answers_are(
    home: Home, exports: dict[str, Path], tmp_path: Path, title: str
) -> None:
    spoiled = next(each for each in SPOILED if each.title == title)
    report = parity(home, exports, tmp_path, spoiled.spoil)
    assert report.status == "failed"
    assert spoiled.cause in " ".join(report.reasons)


def test_what_a_writer_did_after_it_noted_its_tensors_is_found(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = format_writers.write_merged

    def spoiled(work: ExportTask) -> list[str]:
        notices = write(work)
        next(each for each in SPOILED if each.title == "one bit").spoil(work.folder)
        return notices

    monkeypatch.setitem(format_writers.WRITERS, "merged", spoiled)
    report = model_export.run(export_job(home, "merged")).parity
    assert report.status == "failed"
    assert "first model.layers.0.mlp.up_proj.weight" in report.reasons[0]


def test_another_template_is_shown_from_where_it_differs(
    home: Home, exports: dict[str, Path], tmp_path: Path
) -> None:
    def spoil(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        file.write_text(file.read_text().replace("'<|im_start|>assistant", "'<|im_start|>Assistant"))

    report = parity(home, exports, tmp_path, spoil)
    assert report.status == "failed"
    assert report.reasons[0] == "chat_template.jinja: the chat template differs from the model's."
    assert "The chat template renders 22 of 22 prompts differently" in report.reasons[1]
    assert report.rendering.example
    assert report.rendering.example.expected.endswith("<|im_start|>assistant\n")
    assert report.rendering.example.present.endswith("<|im_start|>Assistant\n")
    assert report.mean_kl is None


def test_a_matrix_of_zeros_is_named(home: Home, exports: dict[str, Path], tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name].zero_()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    report = parity(home, exports, tmp_path, spoil)
    assert report.status == "failed"
    assert f"The weight matrix {name} is all zero." in report.reasons
    assert report.mean_kl
    assert report.mean_kl.low
    assert report.mean_kl.low > 0.02
    assert any("KL divergence" in reason for reason in report.reasons)


def test_another_base_of_positions_is_named(home: Home, exports: dict[str, Path], tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] = config["rope_theta"] = 500.0
        (folder / "config.json").write_text(json.dumps(config))

    report = parity(home, exports, tmp_path, spoil)
    assert report.status == "failed"
    assert "500 in the export, 50,000 in the model" in " ".join(report.reasons)
    assert report.long
    assert report.long.tokens == 255  # as long as the model reads
    assert report.long.mean_kl
    assert report.long.mean_kl.value > 0.02


def test_a_model_that_gives_no_numbers_failed(home: Home, exports: dict[str, Path], tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"].fill_(float("nan"))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    report = parity(home, exports, tmp_path, spoil)
    assert report.status == "failed"
    assert "returns non-finite values at" in " ".join(report.reasons)


def test_what_is_left_is_told_of_the_whole_export(home: Home) -> None:
    job = export_job(home, "merged-f32", max_new_tokens=5)  # what was asked before is kept
    declared = model_export.phases(job.spec)
    job.phases = JobProgress(declared)
    result = model_export.run(job)
    events = [json.loads(line) for line in job.dir.events.read_text().splitlines()]
    progress = [event for event in events if event["type"] == "progress"]
    places = [find_phase(declared, event["message"]) for event in progress]
    timed = [place for place in places if place is not None and declared[place].share]
    assert timed == sorted(timed)
    assert len(set(timed)) == 5  # the export is not read in another process here
    left = [event["eta_seconds"] for event in progress if event["eta_seconds"] is not None]
    assert left[0] > 0
    assert result.parity.status == "untold"
