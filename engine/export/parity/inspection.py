"""Inspection of an export's files without a forward pass, and the choice of rows to compare afterwards.

If all files are the model's own, few rows suffice; otherwise rows are sampled from those not seen in
training, and the longest are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from engine.data.split import partition
from engine.evaluation import row_selection
from engine.export.export_subject import ExportSubject
from engine.export.parity import expected_files
from engine.export.parity.file_comparison import compare_files, compare_gguf, compare_weights
from engine.export.tensor_manifest import find_gguf, read_weights
from engine.worker.job import WorkerJob
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
    expected_files.write_settings(job, subject, config.form, settings)
    try:
        present = read_weights(export)
        if get_file_form(config.form, config.gguf).reader == "llama.cpp":
            causes = compare_gguf(settings, find_gguf_file(export))
        else:
            causes = compare_files(settings, export, of_others=config.form in COMPRESSED)
    except ModelError as error:
        return FileInspection([error.message], exact=False)
    causes += compare_weights(written, present, export)
    own = None if causes else expected_files.read_own_weights(subject, config.form)
    same = own is not None and own["tensors"] == present["tensors"]
    usual = config.reader == "usual" and not subject.config.held
    return FileInspection(causes, exact=same and usual and form.reader == "transformers")


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
