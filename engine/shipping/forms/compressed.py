"""Weights in 8 bits as compressed-tensors, which vLLM reads: llmcompressor makes them in its own environment.

It takes transformers back to a release that this project doesn't work with, so it can't stand beside it. The
environment's Python is named by TUNEBENCH_COMPRESSOR.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engine.shipping import merging, twice_written
from engine.shipping.forms.form_work import FormWork
from store.contract.errors import ConfigError, ModelError

SETTING = "TUNEBENCH_COMPRESSOR"
GROUPS = (128, 64, 32)  # columns that share a scale; the width must be a multiple
LAST_LINES = 12
# Groups of 8 bits, rounded to the nearest: nothing has to be calibrated.
SCRIPT = """
import sys
from transformers import AutoModelForCausalLM
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
source, target, group = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "group", "group_size": group}
groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
oneshot(model=model, recipe=QuantizationModifier(config_groups=groups, ignore=["lm_head"]))
model.save_pretrained(target, save_compressed=True)
"""


def interpreter() -> str:
    """The environment's Python. Raises ConfigError (form) that says how to get it."""
    python = os.environ.get(SETTING, "")
    if python and Path(python).expanduser().is_file():
        return str(Path(python).expanduser())
    what = f"{SETTING} is {python!r}, which is no file" if python else f"{SETTING} is not set"
    raise ConfigError(
        f"compressed-tensors are written by llmcompressor, in an environment of its own: {what}.",
        fix=f"python -m venv DIR; DIR/bin/pip install llmcompressor; then start the engine with"
        f" {SETTING}=DIR/bin/python.",
        field="form",
    )


def write(work: FormWork) -> list[str]:
    """Merge, and have it compressed apart. Raises ModelError with what went wrong there."""
    python = interpreter()
    work.tell("Merging the adapter" if work.subject.adapter else "Reading the weights")
    merged = work.aside / "merged"
    model = merging.whole(work.job, work.subject)
    width = int(model.config.get_text_config().hidden_size)
    group = next((size for size in GROUPS if width % size == 0), None)
    if group is None:
        raise ConfigError(
            f"The model is {width} wide, which is no multiple of {GROUPS[-1]}.",
            fix="Choose the form int8.",
            field="form",
        )
    model.to(merging.stored_dtype(work.job, work.subject)).save_pretrained(merged)
    twice_written.complete(merged)
    work.tell("Quantising in the other environment")
    command = [python, "-c", SCRIPT, str(merged), str(work.folder), str(group)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        command, env=environment, cwd=work.aside, capture_output=True, text=True, errors="replace"
    )
    if ran.returncode or not (work.folder / "config.json").exists():
        lines = (ran.stderr or ran.stdout).strip().splitlines()[-LAST_LINES:]
        print("\n".join(lines), file=sys.stderr)
        raise ModelError(
            f"llmcompressor could not write the model: {lines[-1][:300] if lines else ran.returncode}",
            fix="The job's log has its last lines.",
            field="form",
        )
    work.tokenizer().save_pretrained(work.folder)
    return [f"Weights in groups of {group} share a scale; vLLM reads them."]
