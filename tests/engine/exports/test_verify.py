"""Folders and files that are held against their model again: as they are, edited, and hostile."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file

from bench.made.spoiled_exports import SPOILED, SpoiledExport, spoiled_copy
from engine.export import model_export, model_verification, publication, tensor_manifest
from engine.export.export_subject import resolve_subject
from engine.export.parity import checking
from engine.export.parity.file_comparison import compare_gguf
from engine.export.parity.inspection import inspect_files
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, ModelError, NotFoundError
from store.core.export_schemas import ModelVerifyResult, WrittenWeights
from store.core.home import Home
from store.core.job_folder import write_json
from store.export.config import ModelExport, ModelVerify
from tests.engine.exporting import export_job, home_with_model, read_here, trained


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_with_model(tmp_path_factory.mktemp("verified"))
    trained(home, max_steps=10)
    return home


@pytest.fixture(scope="module")
def exports(home: Home) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        read_here(monkeypatch)
        made = {form: model_export.run(export_job(home, form)) for form in ("merged", "adapter")}
    return {form: home.path / result.folder for form, result in made.items()}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read_here(monkeypatch)


def verify(home: Home, path: Path, noted: dict[str, Path] | None = None, **fields: Any) -> ModelVerifyResult:
    """noted: exports whose manifests the store knows."""
    job = export_job(home, "merged")
    asked = {"subject": "run", "part": "all", "max_rows": 20, "max_new_tokens": 6, "dataset": "rows"}
    manifests = [
        {"form": form, "gguf": None, "folder": str(folder.relative_to(home.path)),
         "sha256": publication.compute_file_digest(folder / tensor_manifest.FILE)}
        for form, folder in (noted or {}).items()
    ]  # fmt: skip
    spec = job.spec | {
        "kind": "model_verify",
        "config": ModelVerify.parse(asked | {"path": str(path)} | fields).document(),
        "verify": {"path": str(path), "gguf": "gguf-q8_0", "manifests": manifests},
    }
    write_json(job.dir.config, spec)
    return model_verification.run(WorkerJob(job.dir.path))


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_what_was_exported_is_that_model_with_and_without_its_manifest(
    home: Home, exports: dict[str, Path], tmp_path: Path, form: str
) -> None:
    copy = shutil.copytree(exports[form], tmp_path / "came back")
    with_manifest = verify(home, copy, exports)
    (copy / tensor_manifest.FILE).unlink()
    unknown = verify(home, copy)
    assert with_manifest.notices[0] == model_verification.OURS
    assert unknown.notices[0] == model_verification.ANEW
    for result in (with_manifest, unknown):
        assert result.form.startswith(form)  # a base in 32 bits is merged into 32 bits
        assert result.parity.reasons == [] or result.parity.status == "untold"
        assert result.parity.status == ("passed" if form == "adapter" else "untold")


def test_of_two_exports_in_a_form_the_manifest_beside_the_files_is_theirs(
    home: Home, exports: dict[str, Path], tmp_path: Path
) -> None:
    newer = shutil.copytree(exports["merged"], home.exports / "newer")
    document = json.loads((newer / tensor_manifest.FILE).read_text())
    (newer / tensor_manifest.FILE).write_text(json.dumps(document | {"tensors": {}}))
    order: Any = {
        "manifests": [
            {"form": "merged", "gguf": None, "folder": str(folder.relative_to(home.path)),
             "sha256": publication.compute_file_digest(folder / tensor_manifest.FILE)}
            for folder in (newer, exports["merged"])
        ]
    }  # fmt: skip
    job = export_job(home, "merged")
    job.spec["verify"] = order
    asked = ModelExport.parse(job.config)
    for path in (exports["merged"], shutil.copytree(exports["merged"], tmp_path / "came back")):
        noted = model_verification.ExportVerifier(job, asked, path, tmp_path, 0.0)._noted()
        assert noted is not None
        assert noted["tensors"] == document["tensors"]
    (path / tensor_manifest.FILE).unlink()
    assert model_verification.ExportVerifier(job, asked, path, tmp_path, 0.0)._noted()["tensors"] == {}  # type: ignore[index]


@pytest.mark.parametrize(
    "title",
    [
        *("one bit", "another end in config", "two rare tokens swapped", "temperature 1.5"),
        *("an adapter put beside", "lora_alpha times 0.9"),
    ],
)
def test_what_was_edited_is_named_and_never_loaded(
    home: Home, exports: dict[str, Path], tmp_path: Path, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = next(each for each in SPOILED if each.title == title)
    folder = spoiled_copy(exports[spoiled.form], tmp_path / "edited", spoiled)

    def loaded(*_: Any) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(checking, "_run_reader", loaded)
    result = verify(home, folder, exports, form=spoiled.form)
    assert result.parity.status == "failed"
    assert any(spoiled.cause in reason for reason in result.parity.reasons)


def test_a_manifest_that_was_edited_too_is_not_believed(
    home: Home, exports: dict[str, Path], tmp_path: Path
) -> None:
    one_bit = next(each for each in SPOILED if each.title == "one bit")
    folder = spoiled_copy(exports["merged"], tmp_path / "edited", one_bit)
    document = json.loads((folder / tensor_manifest.FILE).read_text())
    (folder / tensor_manifest.FILE).write_text(json.dumps(document | tensor_manifest.read_weights(folder)))
    for noted in (exports, None):
        result = verify(home, folder, noted, form="merged")
        assert result.parity.status == "failed"
        assert "up_proj.weight" in result.parity.reasons[0]


def test_another_base_beneath_the_adapter_is_named(
    home: Home, exports: dict[str, Path], tmp_path: Path
) -> None:
    weights = home.models / "tiny" / "model.safetensors"
    kept = shutil.copyfile(weights, tmp_path / "kept")
    tensors = load_file(weights)
    tensors["model.norm.weight"] *= 1.5
    save_file(tensors, weights, metadata={"format": "pt"})
    try:
        result = verify(home, exports["adapter"], exports)
    finally:
        shutil.copyfile(kept, weights)
    assert result.parity.reasons == ["The weights of the base model tiny have changed since the export."]


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch ran",))


def test_pickle_and_code_are_told_and_not_run(
    home: Home, exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def spoil(folder: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Runs()))
        (folder / "modeling_own.py").write_text("open('ran', 'w')")
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
        (folder / "config.json").write_text(json.dumps(config))

    folder = spoiled_copy(exports["merged"], tmp_path / "hostile", SpoiledExport("", "merged", spoil, ""))
    reasons = " ".join(verify(home, folder, exports, form="merged").parity.reasons)
    assert "Unexpected file pytorch_model.bin" in reasons
    assert "Unexpected file modeling_own.py" in reasons
    assert "config.json: auto_map is" in reasons
    assert not (tmp_path / "ran").exists()


def test_documents_of_any_shape_are_a_cause_and_no_error(
    home: Home, exports: dict[str, Path], tmp_path: Path
) -> None:
    for name, text in (("tokenizer.json", "[" * 100_000), ("config.json", "[]"),
                       ("tokenizer.json", '{"model": {"vocab": {"a": []}}, "added_tokens": 3}'),
                       ("generation_config.json", "\udcff")):  # fmt: skip
        shutil.rmtree(tmp_path / "odd", ignore_errors=True)
        folder = shutil.copytree(exports["merged"], tmp_path / "odd")
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        result = verify(home, folder, exports, form="merged")
        assert f"The file {name} is not valid JSON." in result.parity.reasons, text[:20]


def test_links_out_of_the_folder_are_refused(home: Home, exports: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(exports["merged"], tmp_path / "linked")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match=r"README\.md is a link to a place outside"):
        verify(home, folder)


def test_what_is_no_export_says_so(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file or folder"):
        verify(home, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="neither safetensors weights nor a GGUF file"):
        verify(home, tmp_path / "empty")
    for header in (
        b"GGUF\x03\0\0\0" + b"\xff" * 16,
        b"GGUF\x03\0\0\0" + b"\0" * 8 + b"\1" + b"\xff" * 40,
        b"no",
    ):
        (tmp_path / "broken.gguf").write_bytes(header)
        with pytest.raises(ModelError, match="is truncated or not a GGUF file"):
            verify(home, tmp_path / "broken.gguf")


def gguf_file(path: Path, kind: int = 1) -> Path:
    """With one tensor; kind: that of the file, 1 where it is half precision."""
    path.parent.mkdir(exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(kind)
    writer.add_tensor("a", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_cut_short_in_its_tensors_says_so(home: Home, tmp_path: Path) -> None:
    file = gguf_file(tmp_path / "model.gguf")
    assert model_verification.detect_format(file).form == "gguf-f16"
    file.write_bytes(file.read_bytes()[:-40])
    says = "model.gguf is truncated or not a GGUF file"
    for read in (
        tensor_manifest.read_weights,
        model_verification.detect_format,
        lambda path: compare_gguf(tmp_path, path),
    ):
        with pytest.raises(ModelError, match=says):
            read(file)
    noted = tensor_manifest.read_weights(gguf_file(tmp_path / "whole" / "model.gguf"))
    assert says in looked_at(home, file, noted, tmp_path)[0]


def looked_at(home: Home, export: Path, noted: WrittenWeights, aside: Path) -> list[str]:
    """Causes that are seen of a GGUF file in half precision, or of its folder."""
    shutil.rmtree(aside / "expected", ignore_errors=True)
    job = export_job(home, "gguf-f16")
    config = ModelExport.parse(job.config)
    return inspect_files(job, resolve_subject(job, config, aside), config, export, noted, aside).causes


def test_a_second_gguf_file_or_none_is_a_cause(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    noted = tensor_manifest.read_weights(gguf_file(folder / "model.gguf"))
    assert not [cause for cause in looked_at(home, folder, noted, tmp_path) if "GGUF" in cause]
    gguf_file(folder / "zz.gguf", kind=7)
    says = "2 GGUF files where an export has one: model.gguf, zz.gguf."
    assert looked_at(home, folder, noted, tmp_path) == [says]
    for file in folder.iterdir():
        file.unlink()
    assert looked_at(home, folder, noted, tmp_path) == ["No GGUF file found."]


def test_a_folder_without_a_readable_config_asks_for_the_form(
    home: Home, exports: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(exports["merged"], tmp_path / "odd")
    (folder / tensor_manifest.FILE).unlink()
    for text in ("{", "[" * 100_000):
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match=r"config\.json in .* is not valid JSON") as error:
            verify(home, folder)
        assert error.value.field == "form"


def test_either_a_path_or_an_export_is_named() -> None:
    for fields in ({}, {"path": "/a", "export": "job-1"}):
        with pytest.raises(ConfigError, match="either a path or an export"):
            ModelVerify.parse({"subject": "run", **fields})
