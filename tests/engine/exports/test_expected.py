"""The settings that an export has to have are those that the writers of forms write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation import evaluated
from engine.models.continued import EarlierRun
from engine.shipping.forms import writing
from engine.shipping.forms.form_work import FormWork
from engine.shipping.parity import expected
from engine.shipping.parity.named import differing_files
from engine.shipping.subject import ExportSubject
from store.catalog.export_forms import FORMS
from store.contract.jobdir import JobDir
from tests.tiny import CHATML, make_tokenizer, write_model

NO_JOB: Any = None  # whole weights need none of its fields


class FolderOfModel(JobDir):
    """A run's folder that is its model."""

    @property
    def model(self) -> Path:
        return self.path


def written(model: Path, form: str, aside: Path) -> tuple[Path, Path]:
    """Settings that are expected of the form, and the form of these whole weights."""
    run = EarlierRun(FolderOfModel(model), evaluated.plain_config(str(model)), "")
    subject = ExportSubject("model", "Model", run, None)
    export, between, settings = (aside / name for name in ("export", "between", "expected"))
    export.mkdir(parents=True)
    between.mkdir()
    writing.write(FormWork(NO_JOB, subject, NO_JOB, FORMS[form], export, between, lambda what: None))
    expected.write_settings(NO_JOB, subject, form, settings)
    return settings, export


def differences(model: Path, form: str, aside: Path) -> list[str]:
    return differing_files(*written(model, form, aside), of_others=False)


@pytest.mark.parametrize("architectures", [None, ["LlamaModel"]])
def test_a_model_that_names_no_class_or_another_is_exported_as_the_one_that_is_loaded(
    tmp_path: Path, architectures: list[str] | None
) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": architectures}
    (folder / "config.json").write_text(json.dumps(config))
    assert differences(folder, "merged", tmp_path / "aside") == []


def test_further_chat_templates_are_compared_and_not_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": CHATML, "tool_use": f"Tools. {CHATML}"}
    model = write_model(tmp_path / "model")
    tokenizer.save_pretrained(model)
    settings, export = written(model, "merged", tmp_path / "aside")
    assert differing_files(settings, export, of_others=False) == []
    template = export / "additional_chat_templates" / "tool_use.jinja"
    template.write_text(template.read_text().replace("Tools", "Cools"))
    (template.parent / "rag.jinja").write_text(CHATML)
    assert differing_files(settings, export, of_others=False) == [
        "The file additional_chat_templates/rag.jinja is none of the model's, and some readers load it.",
        "additional_chat_templates/tool_use.jinja: the file isn't the model's.",
    ]
    template.unlink()
    causes = differing_files(settings, export, of_others=False)
    assert "The file additional_chat_templates/tool_use.jinja is missing." in causes
