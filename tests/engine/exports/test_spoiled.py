"""Exports that were spoiled on purpose: each is caught, with a reason that names what was done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from engine.jobs.shipping import model_export
from engine.shipping.forms import merged
from engine.shipping.forms.form_work import FormWork
from store.contract.home import Home
from store.documents.shipping.parity import ParityReport
from tests.engine.exporting import export_job, home_with_model, read_here, trained


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_with_model(tmp_path_factory.mktemp("spoiled"))
    trained(home, max_steps=10)
    return home


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read_here(monkeypatch)


def parity(home: Home, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]) -> ParityReport:
    """Of a merged export whose folder `spoil` has changed before it was read back."""
    write = merged.write

    def spoiled(work: FormWork) -> list[str]:
        notices = write(work)
        spoil(work.folder)
        return notices

    monkeypatch.setitem(model_export.WRITERS, "merged", spoiled)
    return model_export.run(export_job(home, "merged"))["parity"]


def test_another_template_is_shown_from_where_it_differs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        file.write_text(file.read_text().replace("'<|im_start|>assistant", "'<|im_start|>Assistant"))

    report = parity(home, monkeypatch, spoil)
    assert report["status"] == "failed"
    assert "The chat template renders 32 of 32 prompts otherwise" in report["reasons"][0]
    assert report["rendering"]["example"]
    assert report["rendering"]["example"]["expected"].endswith("<|im_start|>assistant\n")
    assert report["rendering"]["example"]["present"].endswith("<|im_start|>Assistant\n")
    assert report["mean_kl"] is None


def test_a_matrix_of_zeros_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "model.layers.0.mlp.down_proj.weight"

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name].zero_()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    report = parity(home, monkeypatch, spoil)
    assert report["status"] == "failed"
    assert f"The matrix {name} is nothing but zeros." in report["reasons"]
    assert report["mean_kl"]
    assert report["mean_kl"]["low"]
    assert report["mean_kl"]["low"] > 0.02
    assert any("mean divergence" in reason for reason in report["reasons"])


def test_another_base_of_positions_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] = config["rope_theta"] = 500.0
        (folder / "config.json").write_text(json.dumps(config))

    report = parity(home, monkeypatch, spoil)
    assert report["status"] == "failed"
    assert "500 in the export, 50,000 in the model" in report["reasons"][0]
    assert report["long"]
    assert report["long"]["tokens"] == 255  # as long as the model reads
    assert report["long"]["mean_kl"]
    assert report["long"]["mean_kl"]["value"] > 0.02


def test_a_model_that_gives_no_numbers_failed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"].fill_(float("nan"))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    report = parity(home, monkeypatch, spoil)
    assert report["status"] == "failed"
    assert "gives no numbers at" in " ".join(report["reasons"])
