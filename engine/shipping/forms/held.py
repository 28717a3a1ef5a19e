"""Whole weights in 8 or 4 bits, as bitsandbytes keeps them and transformers reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.models import quantised
from engine.shipping import merging
from engine.shipping.forms.form_work import FormWork
from store.catalog.methods import Held
from store.contract.no_code import NO_CODE


def write(work: FormWork) -> list[str]:
    """Merge into fp32, read that back in few bits, save."""
    work.tell("Merging the adapter" if work.subject.adapter else "Reading the weights")
    merged = work.aside / "merged"
    dtype = merging.stored_dtype(work.job, work.subject)
    merging.whole(work.job, work.subject).save_pretrained(merged)
    work.tell("Quantising")
    held: Held = "nf4" if work.form.name == "int4" else "int8"
    model = _read(merged, held, work.job.device, dtype, headed=work.subject.labels is not None)
    work.tell("Writing the weights")
    model.save_pretrained(work.folder)
    work.write_tokenizer(work.folder)
    work.note_written()
    return ["bitsandbytes has to be installed where it is read."]


def _read(folder: Path, held: Held, device: str, dtype: torch.dtype, *, headed: bool) -> Any:
    auto: Any = AutoModelForSequenceClassification if headed else AutoModelForCausalLM
    options = quantised.loading(held, device, dtype, headed=headed)
    return auto.from_pretrained(folder, dtype=dtype, use_safetensors=True, **NO_CODE, **options)
