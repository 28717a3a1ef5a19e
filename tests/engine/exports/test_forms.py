"""What each form leaves of a tiny run, read back; and what is refused by name."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from engine.export import external_tools, model_export, publication
from engine.export.parity import checking
from engine.export.parity.exchange import ParityFolder
from engine.export.parity.inspection import EXACT_ROWS
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import ConfigError, DataError, ModelError, StateError
from store.core.export_schemas import ModelExportResult
from store.core.home import Home
from tests.engine.exporting import export_job, home_with_model, read_here, trained
from tests.shapes import held_to


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_with_model(tmp_path_factory.mktemp("exports"))
    trained(home, max_steps=10)
    return home


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.name.startswith("test_another_process"):
        read_here(monkeypatch)


def exported(home: Home, form: str, **fields: Any) -> tuple[ModelExportResult, Path]:
    result = held_to(ModelExportResult, model_export.run(export_job(home, form, **fields)))
    return result, home.path / result.folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(40)[None], use_cache=False).logits.float()


def tuned(home: Home) -> Any:
    base = AutoModelForCausalLM.from_pretrained(home.models / "tiny", dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(home.jobs / "run" / "model"))


def test_another_process_reads_an_adapter_that_names_no_path(home: Home) -> None:
    result, folder = exported(home, "adapter", zip=True)
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny"
    everything = "".join(p.read_text() for p in folder.iterdir() if p.suffix in (".md", ".json", ".jinja"))
    assert str(home.path) not in everything
    assert "More Information Needed" not in everything
    assert "# run" in (folder / "README.md").read_text()
    assert result.parity.engine.startswith("transformers ")
    kl = result.parity.mean_kl
    assert kl.n == EXACT_ROWS
    assert kl.high < 1e-6  # kernels differ by rounding
    assert result.parity.rendering.other_bytes == 0
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder).returncode == 0
    with zipfile.ZipFile(home.exports / str(result.zip)) as archive:
        assert f"{result.name}/SHA256SUMS" in archive.namelist()
    base = AutoModelForCausalLM.from_pretrained(home.models / "tiny", dtype=torch.float32)
    assert torch.equal(logits(PeftModel.from_pretrained(base, str(folder))), logits(tuned(home)))
    assert not (home.jobs / "run-adapter" / "aside").exists()


def test_merged_weights_answer_as_the_adapter_on_its_base(home: Home) -> None:
    result, folder = exported(home, "merged")
    assert result.parity.mean_kl.value < 1e-6
    assert result.parity.argmax_agreement.value == 1
    merged = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(merged), logits(tuned(home)), atol=1e-4, rtol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 50_000
    assert config["torch_dtype"] == config["dtype"] == "float32"
    template = (folder / "chat_template.jinja").read_text()
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"] == template
    assert AutoTokenizer.from_pretrained(folder).chat_template == template
    again, _ = exported(home, "merged")
    assert again.name == f"{result.name}-2"  # nothing is replaced


def test_four_bits_lose_more_than_eight(home: Home) -> None:
    eight, folder = exported(home, "int8")
    four, _ = exported(home, "int4")
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["load_in_8bit"]
    assert 0 < eight.parity.mean_kl.value < four.parity.mean_kl.value


def test_a_head_goes_along_with_merged_weights_and_into_no_gguf(home: Home) -> None:
    from tests.tiny import conversations, write_rows

    labels: list[str | None] = ["even" if i % 2 else "odd" for i in range(160)]
    write_rows(home, "labelled", conversations(160), labels=labels)
    job = trained_head(home)
    result, folder = exported(home, "merged", run="head", rows="labelled", max_rows=160)
    assert (result.parity.reasons, result.parity.status) == ([], "passed")
    assert result.parity.mean_kl.value < 1e-6
    assert result.parity.answer_agreement.value == 1
    assert {figure.metric for figure in result.parity.figures} >= {"eval/accuracy", "eval/f1_macro"}
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert sorted(model.config.id2label.values()) == ["even", "odd"]
    with pytest.raises(ConfigError, match="classification head") as error:
        model_export.run(export_job(home, "gguf-f16", run="head", rows="labelled"))
    assert error.value.field == "form"
    assert job.dir.model.exists()


def trained_head(home: Home) -> WorkerJob:
    from engine.training import train_job
    from store.core.job_folder import write_json
    from tests.engine.job_events import QUICK
    from tests.tiny import make_job

    folder = make_job(home, "head", **(QUICK | {"task": "classification", "max_steps": 3, "probes": False}))
    order = json.loads(folder.dir.config.read_text())
    order["dataset"] |= {"fingerprint": "labelled", "name": "labelled"}
    write_json(folder.dir.config, order)
    job = WorkerJob(folder.dir.path)
    result = train_job.run(job)
    write_json(job.dir.result, {"status": "finished", "result": result})
    return job


def test_what_does_not_merge_leaves_as_an_adapter_alone(home: Home) -> None:
    trained(home, "prompts", method="prompt_tuning", num_virtual_tokens=4)
    with pytest.raises(ConfigError, match="Prompt tuning can't be merged") as error:
        model_export.run(export_job(home, "merged", run="prompts"))
    assert error.value.field == "form"
    result, _ = exported(home, "adapter", run="prompts")
    assert result.parity.mean_kl.value < 1e-6


def test_what_is_missing_is_said_before_anything_is_made(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(home.exports.iterdir())
    monkeypatch.setattr(external_tools, "get_converter_folder", lambda: Path("/nowhere"))
    with pytest.raises(StateError, match="converter is not installed") as error:
        model_export.run(export_job(home, "gguf-f16"))
    assert "tunebench tools install" in error.value.fix
    monkeypatch.delenv("TUNEBENCH_COMPRESSOR", raising=False)
    with pytest.raises(ConfigError, match="llmcompressor") as refused:
        model_export.run(export_job(home, "compressed-tensors"))
    assert "TUNEBENCH_COMPRESSOR" in refused.value.fix
    monkeypatch.setenv("HF_TOKEN_PATH", "/nowhere")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(StateError, match="signed in") as nobody:
        model_export.run(export_job(home, "merged", hub="ada/model"))
    assert nobody.value.field == "hub"
    monkeypatch.setattr(
        publication.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 200 * 2**20})
    )
    monkeypatch.setattr(publication, "SPARE_BYTES", 200 * 2**20 - 1000)
    with pytest.raises(DataError, match=r"needs about .* MiB of disk space; .* has 200 MiB free"):
        model_export.run(export_job(home, "merged"))
    assert sorted(home.exports.iterdir()) == before


def test_another_process_that_a_signal_ends_is_a_cancelled_job(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal goes to the whole group and ends the other process before this one looks."""
    job = export_job(home, "adapter")
    folder = ParityFolder(job.dir.path)

    class Ended:
        stdout = iter(())

        def wait(self) -> int:
            job.cancel_requested.set()
            return -15

        def terminate(self) -> None:
            pass

    monkeypatch.setattr(checking.subprocess, "Popen", lambda *args, **options: Ended())
    with pytest.raises(JobCancelled):
        checking._run_reader(job, folder, None)


def test_another_process_that_cannot_read_it_is_a_failure_with_its_reason(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = export_job(home, "adapter")

    class Broken:
        stdout = iter(["Traceback\n", "ValueError: no such layer\n"])

        def wait(self) -> int:
            return 1

    monkeypatch.setattr(checking.subprocess, "Popen", lambda *args, **options: Broken())
    with pytest.raises(ModelError, match="no such layer"):
        checking._run_reader(job, ParityFolder(job.dir.path), None)


def test_a_push_that_fails_leaves_the_export_here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took minutes to make; and what can be pushed by hand is there."""
    from engine.export import publication

    def refuses(*args: Any, **options: Any) -> str:
        raise StateError("Could not push to ada/model: no.", fix="Later.", field="hub")

    monkeypatch.setattr(publication, "check_repository", lambda *args, **options: None)
    monkeypatch.setattr(publication, "push_to_hub", refuses)
    result, folder = exported(home, "adapter", hub="ada/model")
    assert result.hub is None
    assert result.notices[-1] == "Not pushed. Could not push to ada/model: no. Later."
    assert (folder / "adapter_config.json").exists()
