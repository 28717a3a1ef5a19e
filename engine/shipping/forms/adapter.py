"""The adapter as peft reads it, naming its base as others know it."""

from __future__ import annotations

import shutil

from engine.shipping.forms.form_work import FormWork
from engine.shipping.subject import public_base
from store.contract.errors import ConfigError
from store.contract.jobdir import read_json, write_json

LEFT_OUT = {"README.md", "tunebench.json"}


def write(work: FormWork) -> list[str]:
    """Copy the adapter. Raises ConfigError (form) for whole weights."""
    subject = work.subject
    if not subject.adapter:
        raise ConfigError(
            f"{subject.title} is whole weights: there is no adapter.",
            fix="Choose the form merged, or a GGUF.",
            field="form",
        )
    work.tell("Copying the adapter")
    for file in sorted(subject.folder.iterdir()):
        if file.is_file() and file.name not in LEFT_OUT:
            shutil.copyfile(file, work.folder / file.name)
    name, revision = public_base(subject, work.job)
    settings = read_json(work.folder / "adapter_config.json")
    settings |= {"base_model_name_or_path": name, "revision": revision}
    write_json(work.folder / "adapter_config.json", settings)
    return [] if "/" in name else [_unpublished(name)]


def _unpublished(name: str) -> str:
    return (
        f"The base model is known here as {name}, which no hub has by that name: whoever loads the adapter"
        " has to give the base model's folder. The form merged needs no base."
    )
