"""What an export's files have to say: settings and tokenizer of the model that was evaluated, written anew.

They come from the model's own files and never from the export, so that a fault of its writer shows too.
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
    """config.json, generation_config.json and the tokenizer's files, as readers of an export find them."""
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
    for part in config.sub_configs:  # rounding a loaded model leaves them as they were loaded: in 32 bits
        if (settings := getattr(config, part, None)) is not None:
            settings.dtype = "float32" if FORMS[form].family == "weights" else stored
    config.save_pretrained(folder)
    if headed:  # it writes no text
        return
    try:
        generation = GenerationConfig.from_pretrained(source, **NO_CODE)
        vars(generation).pop(CODE_FIELD, None)  # it keeps what it doesn't know as a setting
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    generation.save_pretrained(folder)


def _convert_config(config: PreTrainedConfig, *, headed: bool) -> PreTrainedConfig:
    """As the model has it that `merging.pin_whole_model` loads: a saved model names its own class, and the
    files of an
    adapter, or of an older model, may name another or none. Of some models that read pictures too the text
    part alone is loaded."""
    auto: Any = AutoModelForSequenceClassification if headed else AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        return config
    config.architectures = config.architectures or []
    kind = _get_model_class(config, auto._model_mapping)
    text = config.sub_configs.get("text_config")
    if text is not None and kind.config_class == text:  # as the library's auto classes ask it
        config = config.get_text_config()
    config.architectures = [kind.__name__]
    return config


def read_own_weights(subject: ExportSubject, form: str) -> WrittenWeights | None:
    """The tensors of the model itself, where the form takes them as they are: then an export that has them
    too is the model, whoever wrote it. None where the form makes others of them."""
    if subject.adapter != (FORMS[form].family == "adapter"):
        return None
    return read_weights(subject.folder) if FORMS[form].family in ("adapter", "weights") else None
