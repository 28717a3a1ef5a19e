"""The settings that an export has to have are those that the writers of forms write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from engine.evaluation import evaluated_model
from engine.export import format_writers
from engine.export.export_subject import ExportSubject, ExportTask
from engine.export.parity import inspection
from engine.export.parity.file_comparison import compare_files
from engine.models.saved_models import EarlierRun
from store.core.job_folder import JobDir
from store.export.forms import FORMS
from tests.tiny import CHATML, make_tokenizer, write_model

NO_JOB: Any = None  # whole weights need none of its fields


class FolderOfModel(JobDir):
    """A run's folder that is its model."""

    @property
    def model(self) -> Path:
        return self.path


def written(model: Path, form: str, aside: Path) -> tuple[Path, Path]:
    """Settings that are expected of the form, and the form of these whole weights."""
    run = EarlierRun(FolderOfModel(model), evaluated_model.build_default_config(str(model)), "")
    subject = ExportSubject("model", "Model", run, None)
    export, between, settings = (aside / name for name in ("export", "between", "expected"))
    export.mkdir(parents=True)
    between.mkdir()
    format_writers.write(ExportTask(NO_JOB, subject, NO_JOB, FORMS[form], export, between, lambda what: None))
    inspection.write_settings(NO_JOB, subject, form, settings)
    return settings, export


def differences(model: Path, form: str, aside: Path) -> list[str]:
    return compare_files(*written(model, form, aside), of_others=False)


@pytest.mark.parametrize("architectures", [None, ["LlamaModel"]])
def test_a_model_that_names_no_class_or_another_is_exported_as_the_one_that_is_loaded(
    tmp_path: Path, architectures: list[str] | None
) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": architectures}
    (folder / "config.json").write_text(json.dumps(config))
    assert differences(folder, "merged", tmp_path / "aside") == []


def test_settings_of_the_generation_that_a_model_comes_with_are_expected_as_they_are(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    settings = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "do_sample": True, "top_k": 40}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    assert differences(folder, "merged", tmp_path / "aside") == []


def test_further_chat_templates_are_compared_and_not_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": CHATML, "tool_use": f"Tools. {CHATML}"}
    model = write_model(tmp_path / "model")
    tokenizer.save_pretrained(model)
    settings, export = written(model, "merged", tmp_path / "aside")
    assert compare_files(settings, export, of_others=False) == []
    template = export / "additional_chat_templates" / "tool_use.jinja"
    template.write_text(template.read_text().replace("Tools", "Cools"))
    (template.parent / "rag.jinja").write_text(CHATML)
    assert compare_files(settings, export, of_others=False) == [
        "Unexpected file additional_chat_templates/rag.jinja, which some tools load.",
        "additional_chat_templates/tool_use.jinja: the file differs from the model's.",
    ]
    template.unlink()
    causes = compare_files(settings, export, of_others=False)
    assert "The file additional_chat_templates/tool_use.jinja is missing." in causes


def write_composite(folder: Path, kind: str) -> Path:
    """A model that reads pictures too, stored in bfloat16."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        **{"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256},
        **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
    }
    if kind == "gemma3":
        vision = {
            **{"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32},
            **{"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        }
        config = AutoConfig.for_model(kind, text_config=shape, vision_config=vision, mm_tokens_per_image=4)
        model = AutoModelForImageTextToText.from_config(config)
    else:
        shape |= {"layer_types": ["full_attention"] * 2}
        config = AutoConfig.for_model(kind, text_config=shape, vision_config={"depth": 1})
        model = AutoModelForCausalLM.from_config(config.get_text_config())
    model.bfloat16().save_pretrained(folder)
    if kind != "gemma3":  # beside the weights of its text part: that is what is loaded
        config.dtype = "bfloat16"
        config.architectures = ["Qwen3_5ForConditionalGeneration"]
        config.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("form", ["merged", "merged-f32"])
@pytest.mark.parametrize("kind", ["gemma3", "qwen3_5"])
def test_of_a_model_that_reads_pictures_too_the_part_is_expected_that_is_loaded(
    tmp_path: Path, kind: str, form: str
) -> None:
    folder = write_composite(tmp_path / "model", kind)
    assert differences(folder, form, tmp_path / "aside") == []
