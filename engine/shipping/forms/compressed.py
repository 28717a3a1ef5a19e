"""Weights in 8 bits as compressed-tensors, which vLLM reads: llmcompressor makes them in its own environment.

It takes transformers back to a release that this project doesn't work with, so it can't stand beside it.
"""

from __future__ import annotations

import subprocess
import sys

from engine.shipping import merging, twice_written
from engine.shipping.environments import COMPRESSOR, LAST_LINES, plain_environment
from engine.shipping.forms.form_work import FormWork
from store.contract.errors import ConfigError

GROUPS = (128, 64, 32)  # columns that share a scale; the width must be a multiple
W8A8 = "compressed-tensors-w8a8"
# Rounded to the nearest: nothing has to be calibrated. A group of 0 columns: a scale for each row, and what
# comes in is rounded to 8 bits too, token by token.
SCRIPT = """
import sys
from transformers import AutoModelForCausalLM
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
source, target, group = sys.argv[1], sys.argv[2], int(sys.argv[3])
safe = {"use_safetensors": True, "trust_remote_code": False}
model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", **safe)
weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "group", "group_size": group}
groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
how = {"config_groups": groups} if group else {"targets": "Linear", "scheme": "W8A8"}
oneshot(model=model, recipe=QuantizationModifier(ignore=["lm_head"], **how))
model.save_pretrained(target, save_compressed=True)
"""


def write(work: FormWork) -> list[str]:
    """Merge, and have it compressed apart. Raises ModelError or DataError with what went wrong there."""
    version = COMPRESSOR.check()
    work.tell("Merging the adapter" if work.subject.adapter else "Reading the weights")
    merged = work.aside / "merged"
    model = merging.whole(work.job, work.subject)
    group = 0 if work.form.name == W8A8 else _group(int(model.config.get_text_config().hidden_size))
    model.to(merging.stored_dtype(work.job, work.subject)).save_pretrained(merged)
    twice_written.complete(merged)
    work.tell("Quantising in the other environment")
    command = [COMPRESSOR.python(), "-c", SCRIPT, str(merged), str(work.folder), str(group)]
    ran = subprocess.run(
        command,
        env=plain_environment() | {"HF_HUB_OFFLINE": "1"},
        cwd=work.aside,
        capture_output=True,
        text=True,
        errors="replace",
    )
    work.job.check_cancelled()  # a signal to the group reaches the other process first
    if ran.returncode or not (work.folder / "config.json").exists():
        lines = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-LAST_LINES:]
        print("\n".join(lines), file=sys.stderr)
        raise COMPRESSOR.ended("could not write the model", ran.returncode, lines, version)
    for file in work.folder.iterdir():
        file.chmod(0o666 & ~_mask())  # it writes weights that its own user alone can read
    work.write_tokenizer(work.folder)
    work.note_written()
    return []


def _group(width: int) -> int:
    for size in GROUPS:
        if width % size == 0:
            return size
    raise ConfigError(
        f"The model is {width} wide, which is no multiple of {GROUPS[-1]}.",
        fix=f"Choose the form int8 or {W8A8}.",
        field="form",
    )


def _mask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
