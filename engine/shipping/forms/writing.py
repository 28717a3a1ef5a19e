"""Which module writes which form, and what is common to all of them."""

from __future__ import annotations

import shutil

from engine.shipping import twice_written
from engine.shipping.forms import adapter, compressed, gguf, held, merged, ollama
from engine.shipping.forms.form_work import WRITTEN, FormWork
from store.catalog.export_forms import COMPRESSED, GGUF_FORMS
from store.contract.jobdir import read_json
from store.documents.shipping.export_manifest import WrittenWeights

WRITERS = {
    "adapter": adapter.write,
    "merged": merged.write,
    "merged-f32": merged.write,
    "int8": held.write,
    "int4": held.write,
    **dict.fromkeys(COMPRESSED, compressed.write),
    **dict.fromkeys(GGUF_FORMS, gguf.write),
    "ollama": ollama.write,
}

# Beginnings of what the writers tell.
MESSAGES = (
    "Merging the adapter",
    "Reading the weights",
    "Writing the weights",
    "Copying the adapter",
    "Converting to GGUF",
    "Quantising",
)


def write(work: FormWork) -> tuple[list[str], WrittenWeights]:
    """Fill the folder: what a reader should know, and the tensors as they were written. What lay between is
    gone afterwards."""
    notices = WRITERS[work.form.name](work)
    shutil.rmtree(work.aside / "merged", ignore_errors=True)
    if work.form.family not in ("gguf", "ollama"):
        twice_written.complete(work.folder)
    written: WrittenWeights = read_json(work.aside / WRITTEN)
    return notices, written
