"""Expected files of an export: settings and tokenizer of the evaluated model, written again.

They are derived from the model's own files and never from the export, so that errors of its writer show too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers.models.auto.auto_factory import _get_model_class

from engine.export import export_subject, format_writers, model_settings
from engine.export.export_subject import ExportSubject
from engine.export.tensor_manifest import read_weights
from engine.models import loading
from engine.worker.job import WorkerJob
from store.core.config import CODE_FIELD, NO_CODE
from store.core.export_schemas import WrittenWeights
from store.export.forms import FORMS


def write_settings(job: WorkerJob, subject: ExportSubject, form: str, folder: Path) -> None:
    """Write config.json, generation_config.json and the tokenizer files as an export has them."""
    folder.mkdir()
    if FORMS[form].family == "adapter":
        format_writers.write_adapter_settings(job, subject, folder)
    else:
        _write_config(job, subject, form, folder)
        export_subject.write_tokenizer_files(job, subject, folder)
    model_settings.complete_settings(folder)


def _write_config(job: WorkerJob, subject: ExportSubject, form: str, folder: Path) -> None:
    source = subject.base(job)
    headed = subject.labels is not None
    config = _convert_config(loading.load_config(str(subject.folder) if headed else source), headed=headed)
    config.use_cache = True
    stored = export_subject.read_stored_dtype(job, subject)
    config.dtype = "float32" if form == "merged-f32" else stored
    for part in config.sub_configs:  # converting a loaded model leaves these at their loaded dtype, 32 bits
        if (settings := getattr(config, part, None)) is not None:
            settings.dtype = "float32" if FORMS[form].family == "weights" else stored
    config.save_pretrained(folder)
    if headed:  # it generates no text
        return
    try:
        generation = GenerationConfig.from_pretrained(source, **NO_CODE)
        vars(generation).pop(CODE_FIELD, None)  # unknown arguments are stored as settings
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    generation.save_pretrained(folder)


def _convert_config(config: PreTrainedConfig, *, headed: bool) -> PreTrainedConfig:
    """Return the config as saved with the model that `export_subject.load_merged` loads.

    A saved model names its own class, whereas the files of an adapter, or of an older model, may name another
    or none. Of some multimodal models only the text part is loaded.
    """
    auto: Any = AutoModelForSequenceClassification if headed else AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        return config
    config.architectures = config.architectures or []
    kind = _get_model_class(config, auto._model_mapping)
    text = config.sub_configs.get("text_config")
    if text is not None and kind.config_class == text:  # as the library's auto classes check
        config = config.get_text_config()
    config.architectures = [kind.__name__]
    return config


def read_own_weights(subject: ExportSubject, form: str) -> WrittenWeights | None:
    """Return the model's own tensors if the format stores them unchanged, otherwise None.

    An export with the same tensors is the model, whoever wrote it.
    """
    if subject.adapter != (FORMS[form].family == "adapter"):
        return None
    return read_weights(subject.folder) if FORMS[form].family in ("adapter", "weights") else None
