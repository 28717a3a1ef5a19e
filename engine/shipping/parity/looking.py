"""The first look at an export: by name, without a forward pass, and whether that is all there is to see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.shipping.manifest import gguf_of, of_weights
from engine.shipping.parity import expected
from engine.shipping.parity.named import differing_files, differing_weights
from engine.shipping.parity.named_gguf import differing_gguf
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.catalog.export_forms import COMPRESSED, FORMS, file_form
from store.config.shipping.model_export_config import ModelExport
from store.contract.errors import ModelError
from store.documents.shipping.export_manifest import WrittenWeights


@dataclass(frozen=True)
class NamedLook:
    """causes: sentences, each a difference by which answers may differ; exact: settings, tokenizer and every
    tensor are the model's own, and the engine that evaluated it reads them."""

    causes: list[str]
    exact: bool


def gguf_file(export: Path) -> Path:
    """The export itself, or the one in its folder. Raises ModelError where there is none, or several."""
    file = export if export.is_file() else gguf_of(export)
    if file is None:
        raise ModelError("There is no GGUF file.", fix="Name the folder of an export in this form.")
    return file


def look(
    job: WorkerJob,
    subject: ExportSubject,
    config: ModelExport,
    export: Path,
    written: WrittenWeights,
    aside: Path,
) -> NamedLook:
    """Hold the files of `export` against the model's, and its tensors against those that were `written`."""
    job.progress(0, 1, "files", "Comparing settings, tokenizer and tensors by name")
    form, settings = FORMS[config.form], aside / "expected"
    expected.write_settings(job, subject, config.form, settings)
    try:
        present = of_weights(export)
        if file_form(config.form, config.gguf).reader == "llama.cpp":
            causes = differing_gguf(settings, gguf_file(export))
        else:
            causes = differing_files(settings, export, of_others=config.form in COMPRESSED)
    except ModelError as error:
        return NamedLook([error.message], exact=False)
    causes += differing_weights(written, present, export)
    own = None if causes else expected.own_weights(subject, config.form)
    same = own is not None and own["tensors"] == present["tensors"]
    usual = config.reader == "usual" and not subject.config.held
    return NamedLook(causes, exact=same and usual and form.reader == "transformers")
