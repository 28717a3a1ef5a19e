"""GGUF files, written by llama.cpp's converter and read back by llama.cpp's library."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gguf import GGUFReader

from engine.export import external_tools, gguf_formats, model_export
from engine.export.llama_library import GgufModel
from store.core.export_schemas import ModelExportResult, ParityReport
from store.core.home import Home
from tests.engine.exporting import export_job, home_with_model, read_here, trained
from tests.tiny import CHATML

pytestmark = pytest.mark.skipif(
    not external_tools.is_converter_installed(),
    reason="llama.cpp's converter is not installed: tunebench tools install",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Its template writes the token of the beginning."""
    home = home_with_model(tmp_path_factory.mktemp("gguf"), template="{{ bos_token }}" + CHATML)
    trained(home, max_steps=10)
    return home


@pytest.fixture(scope="module")
def half(home: Home) -> ModelExportResult:
    """Converted once, for all tests of this file."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        read_here(monkeypatch)
        return model_export.run(export_job(home, "gguf-f16"))


def again(
    home: Home, form: str, monkeypatch: pytest.MonkeyPatch, half: ModelExportResult
) -> ModelExportResult:
    """The form from the file that was converted before."""

    def copied(folder: Path, target: Path, name: str) -> list[str]:
        shutil.copyfile(home.path / half.folder / "run-F16.gguf", target)
        return []

    read_here(monkeypatch)
    monkeypatch.setattr(gguf_formats, "convert", copied)
    return model_export.run(export_job(home, form))


def test_it_is_the_model_and_begins_once(home: Home, half: ModelExportResult) -> None:
    parity = half.parity
    assert parity.engine.startswith("llama.cpp ")
    assert parity.mean_kl
    assert parity.mean_kl.value < 1e-4
    assert parity.rendering.doubled_bos == parity.rendering.other_ids == 0
    assert [file.path for file in half.files] == ["README.md", "manifest.json", "run-F16.gguf"]
    assert (
        "falls back to GPT-2 pre-tokenization" in half.notices[0]
    )  # the tokenizer of a test is known to nobody
    assert parity.figures


def test_a_text_goes_on_behind_what_it_has_in_common_with_the_last_one(
    home: Home, half: ModelExportResult
) -> None:
    model = GgufModel(home.path / half.folder / "run-F16.gguf", 128, 1)
    text = [*range(5, 60)]
    other = [*text[:40], *range(70, 90)]
    model.forget()
    whole = model.logits(other, 0, [45, 59])
    model.forget()
    model.logits(text, 0, [54])
    assert model.forget(40) == 40
    assert model.logits(other[40:], 40, [5, 19]) == pytest.approx(whole, abs=1e-2)
    assert model.forget() == 0
    assert model.logits(other[40:], 0, [5, 19]) != pytest.approx(whole, abs=1e-2)


def test_ollama_gets_a_smaller_file_and_what_it_asks_by(
    home: Home, half: ModelExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = again(home, "ollama", monkeypatch, half)
    assert small.model_bytes < 0.8 * half.model_bytes
    modelfile = (home.path / small.folder / "Modelfile").read_text()
    assert modelfile.startswith('FROM ./run-Q8_0.gguf\nTEMPLATE """<|im_start|>{{ range .Messages }}')
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}' in modelfile


def test_a_beginning_that_template_and_tokenizer_both_write_is_caught(
    home: Home, half: ModelExportResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _adding(home, half, monkeypatch).status == "failed"


def _adding(home: Home, half: ModelExportResult, monkeypatch: pytest.MonkeyPatch) -> ParityReport:
    file = home.path / half.folder / "run-F16.gguf"
    field = GGUFReader(file, "r+").get_field("tokenizer.ggml.add_bos_token")
    assert field is not None
    flag = field.parts[field.data[0]]
    assert not flag[0]
    flag[0] = True
    try:
        report = again(home, "gguf-f16", monkeypatch, half).parity
    finally:
        flag[0] = False
    assert "with a double BOS token" in report.reasons[0]
    assert report.mean_kl is None
    return report
