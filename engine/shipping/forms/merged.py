"""Whole weights as safetensors, in the precision in which the base model lies on the disk, or in 32 bits."""

from __future__ import annotations

from engine.shipping import merging
from engine.shipping.forms.form_work import FormWork


def write(work: FormWork) -> list[str]:
    """Merge, round once, save."""
    work.tell("Merging the adapter" if work.subject.adapter else "Reading the weights")
    model = merging.whole(work.job, work.subject)
    work.tell("Writing the weights")
    if work.form.name == "merged":
        model = model.to(merging.stored_dtype(work.job, work.subject))
    model.save_pretrained(work.folder)
    work.write_tokenizer(work.folder)
    work.note_written()
    return []
