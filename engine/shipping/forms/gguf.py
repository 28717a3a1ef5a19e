"""A GGUF file: llama.cpp's own converter in a process of its own, then its quantisation.

The converter is given the merged weights in fp32, so that they are rounded once. Where the chat template
writes the token of the beginning itself, the file says that no reader is to add it: most do both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engine.models import models
from engine.shipping import converter, llama_library, merging, twice_written
from engine.shipping.forms.form_work import FormWork
from store.catalog.export_forms import file_form
from store.contract.errors import ConfigError, ModelError
from store.contract.jobdir import read_json, write_json

LAST_LINES = 12
SCRIPT = Path(__file__).parents[1] / "convert_process.py"
GUESSED = "tokenizer taken for GPT-2's"  # as the script says it
NOTICE = (
    "llama.cpp doesn't know this tokenizer by name: it parts words as GPT-2's does. The prompts were compared"
    " token by token; other texts may be read otherwise."
)


def write(work: FormWork) -> list[str]:
    """The file MODEL.FORM.gguf in the folder."""
    notices = make(work, work.folder / file_name(work))
    work.note_written()
    return notices


def file_name(work: FormWork) -> str:
    """As people name such files: model-Q8_0.gguf."""
    form = file_form(work.form.name, work.config.gguf)
    return f"{work.subject.name}-{form.name.removeprefix('gguf-').upper()}.gguf"


def make(work: FormWork, target: Path) -> list[str]:
    """Merge, convert to F16, quantise; what a reader should know. Raises ConfigError for an encoder or a
    classifier."""
    check(work)
    merged, form = work.aside / "merged", file_form(work.form.name, work.config.gguf)
    work.tell("Merging the adapter" if work.subject.adapter else "Reading the weights")
    merging.whole(work.job, work.subject).save_pretrained(merged)
    work.tokenizer().save_pretrained(merged)
    twice_written.complete(merged)
    _begin_once(work, merged)
    work.tell("Converting to GGUF")
    half = target if form.name == "gguf-f16" else work.aside / "model-F16.gguf"
    notices = convert(merged, half, work.subject.name)
    if half != target:
        work.tell(f"Quantising to {form.title.removeprefix('GGUF ')}")
        llama_library.quantise(half, target, form.ftype)
        half.unlink()
    return notices


def check(work: FormWork) -> None:
    """Raise ConfigError (form) for what llama.cpp has no place for."""
    subject = work.subject
    if subject.labels is not None:
        what = "reads text and has" if _is_encoder(subject.base(work.job)) else "has"
        raise ConfigError(
            f"{subject.title} {what} a classification head, which GGUF files of language models have no place"
            " for.",
            fix="Choose the form merged.",
            field="form",
        )
    if _is_encoder(subject.base(work.job)):
        raise ConfigError(
            f"{subject.title} is an encoder: it reads text and can't write any.",
            fix="Choose the form merged.",
            field="form",
        )


def check_tools() -> None:
    """Raise StateError where converter or library are missing, and say how to get them."""
    converter.find()
    llama_library.library()


def _is_encoder(source: str) -> bool:
    return models.is_encoder(models.load_config(source))


def _begin_once(work: FormWork, merged: Path) -> None:
    """Where the template writes the token of the beginning, readers are told not to add it."""
    tokenizer = work.tokenizer()
    if not tokenizer.bos_token:
        return
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    settings = read_json(merged / "tokenizer_config.json")
    adds = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    settings["add_bos_token"] = adds and not text.startswith(tokenizer.bos_token)
    write_json(merged / "tokenizer_config.json", settings)


def convert(folder: Path, target: Path, name: str) -> list[str]:
    """The model in `folder` as an F16 file; what a reader should know of it. Raises ModelError with what the
    converter said."""
    tool = converter.find()
    command = [sys.executable, "-P", str(SCRIPT), str(folder), "--outtype", "f16"]
    command += ["--outfile", str(target), "--model-name", name]
    environment = os.environ | {"PYTHONPATH": str(tool), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if ran.returncode == 0 and target.exists():
        return [NOTICE] if GUESSED in ran.stderr else []
    last = "\n".join((ran.stderr or ran.stdout).strip().splitlines()[-LAST_LINES:])
    print(last, file=sys.stderr)
    why = last.splitlines()[-1].strip() if last else f"exit code {ran.returncode}"
    raise ModelError(
        f"llama.cpp's converter could not write the model: {why[:300]}",
        fix="The job's log has its last lines. An architecture that llama.cpp doesn't know can't be a GGUF.",
        field="form",
    )
