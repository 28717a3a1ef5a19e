"""Inspection of an export's files without a forward pass, and the choice of rows to compare afterwards.

The expected files, settings and tokenizer, are derived from the model's own files and never from the export,
so that errors of its writer show too. If all files are the model's own, few rows suffice; otherwise rows are
sampled from those not seen in training, and the longest are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers.models.auto.auto_factory import _get_model_class

from engine.data.split import partition
from engine.evaluation import row_selection
from engine.export import export_subject, format_writers, model_settings
from engine.export.export_subject import ExportSubject
from engine.export.parity.file_comparison import compare_files, compare_gguf, compare_weights
from engine.export.tensor_manifest import find_gguf, read_weights
from engine.models import loading
from engine.worker.job import WorkerJob
from store.core.config import CODE_FIELD, NO_CODE
from store.core.errors import DataError, ModelError
from store.core.export_schemas import WrittenWeights
from store.data import dataset_files
from store.evaluation.config import EvaluateConfig
from store.export.config import ModelExport
from store.export.forms import COMPRESSED, FORMS, get_file_form


@dataclass(frozen=True)
class FileInspection:
    """Result of the inspection.

    causes: sentences, each a difference that may change responses; exact: settings, tokenizer and every
    tensor are the model's own, and the engine that evaluated it reads them.
    """

    causes: list[str]
    exact: bool


def find_gguf_file(export: Path) -> Path:
    """Return the export itself, or the file in its folder. Raises ModelError if there is none, or several."""
    file = export if export.is_file() else find_gguf(export)
    if file is None:
        raise ModelError("No GGUF file found.", fix="Give the folder of an export in this form.")
    return file


def inspect_files(
    job: WorkerJob,
    subject: ExportSubject,
    config: ModelExport,
    export: Path,
    written: WrittenWeights,
    aside: Path,
) -> FileInspection:
    """Compare the files of `export` with the model's, and its tensors with those `written`."""
    job.progress(0, 1, "files", "Comparing settings, tokenizer and tensors")
    form, settings = FORMS[config.form], aside / "expected"
    write_settings(job, subject, config.form, settings)
    try:
        present = read_weights(export)
        if get_file_form(config.form, config.gguf).reader == "llama.cpp":
            causes = compare_gguf(settings, find_gguf_file(export))
        else:
            causes = compare_files(settings, export, of_others=config.form in COMPRESSED)
    except ModelError as error:
        return FileInspection([error.message], exact=False)
    causes += compare_weights(written, present, export)
    own = None if causes else read_own_weights(subject, config.form)
    same = own is not None and own["tensors"] == present["tensors"]
    usual = config.reader == "usual" and not subject.config.held
    return FileInspection(causes, exact=same and usual and form.reader == "transformers")


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


MAX_LONG_ROWS = 12  # maximum number of longest rows, beyond the sampled ones
DRAWN_PER_LONG_ROW = (
    16  # sampled rows per longest row, as those are expensive and small checks should be fast
)
EXACT_ROWS = 20  # if every byte is the model's, or the files show that it isn't


class ParityRows(NamedTuple):
    """Row ids, sorted; notices: for the user of the export."""

    drawn: np.ndarray
    longest: np.ndarray
    notices: list[str]


def choose_rows(
    job: WorkerJob, subject: ExportSubject, config: ModelExport, seen: FileInspection
) -> ParityRows:
    """Choose the rows, few if the files were conclusive. Raises DataError if there are none."""
    most = min(config.max_rows, EXACT_ROWS) if seen.exact or seen.causes else config.max_rows
    ids, notices = _choose_held_out(job, subject, config)
    fingerprint = job.spec["dataset"]["fingerprint"]
    table = dataset_files.load_rows(job.home, fingerprint, columns=["digest", "text"], row_ids=ids)
    digests = np.zeros(int(ids.max()) + 1, table["digest"].to_numpy().dtype)
    digests[ids] = table["digest"].to_numpy()
    drawn = np.sort(partition.select_by_hash(digests, ids, min(len(ids), most), 0))
    lengths = pc.fill_null(pc.utf8_length(table["text"]), 0).to_numpy()
    others = ~np.isin(ids, drawn)
    count = min(MAX_LONG_ROWS, -(-len(drawn) // DRAWN_PER_LONG_ROW))
    order = np.argsort(-lengths[others], kind="stable")[:count]
    return ParityRows(drawn, np.sort(ids[others][order]), notices)


def _choose_held_out(
    job: WorkerJob, subject: ExportSubject, config: ModelExport
) -> tuple[np.ndarray, list[str]]:
    """Return the rows of the requested part, or of validation with a notice."""
    trained_on, run_id = job.spec["dataset"], job.spec["export"].run_id
    named = {"run": run_id} if run_id else {"model": str(subject.folder)}
    for part in dict.fromkeys([config.part, "validation"]):
        asked = {**named, "dataset": trained_on["dataset_id"], "part": part, "max_rows": None}
        try:
            ids = row_selection.select_rows(job, EvaluateConfig.parse(asked)).row_ids
        except DataError:
            continue
        other = part != config.part
        return ids, [f"There are no {config.part} rows; validation rows were used instead."] if other else []
    raise DataError(
        f"{trained_on['name']} has neither {config.part} nor validation rows to compare responses on.",
        fix="Give another data set, or set part to all.",
        field="dataset",
    )
