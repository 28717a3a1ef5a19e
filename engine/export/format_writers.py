"""Writers of the safetensors formats, and the table of writers by format.

Formats are the adapter as peft reads it, full weights, and weights in 8 or 4 bits; compressed-tensors are
written by llmcompressor in its own environment. Invariant: a writer fills an empty folder, records its
tensors, and returns notices for the user.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.export import export_subject, gguf_formats, model_settings
from engine.export.export_subject import WRITTEN_FILE, ExportSubject, ExportTask, describe_public_base
from engine.export.external_tools import COMPRESSOR, LAST_LINES, build_clean_environment
from engine.models import loading
from engine.worker.job import WorkerJob
from store.core.config import NO_CODE
from store.core.errors import ConfigError
from store.core.export_schemas import WrittenWeights
from store.core.job_folder import read_json, write_json
from store.core.model_schemas import BaseReference
from store.export.forms import COMPRESSED, GGUF_FORMS
from store.training.methods import Quantisation


def write_merged(work: ExportTask) -> list[str]:
    """Merge, round once, and save."""
    work.tell("Merging the adapter" if work.subject.adapter else "Loading the weights")
    model = export_subject.load_merged(work.job, work.subject)
    work.tell("Writing the weights")
    if work.form.name == "merged":
        model = model.to(export_subject.read_stored_dtype(work.job, work.subject))
    model.save_pretrained(work.folder)
    work.write_tokenizer(work.folder)
    work.note_written()
    return []


def write_quantised(work: ExportTask) -> list[str]:
    """Merge in fp32, reload quantized, and save."""
    work.tell("Merging the adapter" if work.subject.adapter else "Loading the weights")
    merged = work.aside / "merged"
    dtype = export_subject.read_stored_dtype(work.job, work.subject)
    export_subject.load_merged(work.job, work.subject).save_pretrained(merged)
    work.tell("Quantizing")
    held: Quantisation = "nf4" if work.form.name == "int4" else "int8"
    model = _read_quantised(merged, held, work.job.device, dtype, headed=work.subject.labels is not None)
    work.tell("Writing the weights")
    model.save_pretrained(work.folder)
    work.write_tokenizer(work.folder)
    work.note_written()
    return ["Loading this export requires bitsandbytes."]


def _read_quantised(
    folder: Path, held: Quantisation, device: str, dtype: torch.dtype, *, headed: bool
) -> Any:
    auto: Any = AutoModelForSequenceClassification if headed else AutoModelForCausalLM
    options = loading.build_quantisation_options(held, device, dtype, headed=headed)
    return auto.from_pretrained(folder, dtype=dtype, use_safetensors=True, **NO_CODE, **options)


COMPRESSION_GROUPS = (128, 64, 32)  # columns that share a scale; the hidden size must be a multiple
W8A8 = "compressed-tensors-w8a8"
# Round to nearest, which needs no calibration. Group 0: one scale per row, and activations are quantized to 8
# bits too, per token.
COMPRESSION_SCRIPT = """
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


def write_compressed(work: ExportTask) -> list[str]:
    """Merge, and compress in the separate environment. Raises ModelError or DataError with its failure."""
    version = COMPRESSOR.check()
    work.tell("Merging the adapter" if work.subject.adapter else "Loading the weights")
    merged = work.aside / "merged"
    model = export_subject.load_merged(work.job, work.subject)
    group = (
        0 if work.form.name == W8A8 else _choose_group_size(int(model.config.get_text_config().hidden_size))
    )
    model.to(export_subject.read_stored_dtype(work.job, work.subject)).save_pretrained(merged)
    model_settings.complete_settings(merged)
    work.tell("Quantizing in the separate environment")
    command = [COMPRESSOR.python(), "-c", COMPRESSION_SCRIPT, str(merged), str(work.folder), str(group)]
    ran = subprocess.run(
        command,
        env=build_clean_environment() | {"HF_HUB_OFFLINE": "1"},
        cwd=work.aside,
        capture_output=True,
        text=True,
        errors="replace",
    )
    work.job.check_cancelled()  # a signal to the process group reaches the other process first
    if ran.returncode or not (work.folder / "config.json").exists():
        lines = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-LAST_LINES:]
        print("\n".join(lines), file=sys.stderr)
        raise COMPRESSOR.ended("could not write the model", ran.returncode, lines, version)
    for file in work.folder.iterdir():
        file.chmod(0o666 & ~_read_umask())  # llmcompressor writes weights readable by the owner only
    work.write_tokenizer(work.folder)
    work.note_written()
    return []


def _choose_group_size(width: int) -> int:
    for size in COMPRESSION_GROUPS:
        if width % size == 0:
            return size
    raise ConfigError(
        f"The hidden size of the model ({width}) is not a multiple of {COMPRESSION_GROUPS[-1]}.",
        fix=f"Choose the form int8 or {W8A8}.",
        field="form",
    )


def _read_umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


ADAPTER_SETTINGS = "adapter_config.json"
MODEL_FILES = (
    ADAPTER_SETTINGS,
    "config.json",
    "generation_config.json",
)  # a classifier's config contains its labels
ADAPTER_WEIGHTS = "*.safetensors"


def write_adapter(work: ExportTask) -> list[str]:
    """Copy the adapter. Raises ConfigError (form) for full weights."""
    subject = work.subject
    if not subject.adapter:
        raise ConfigError(
            f"{subject.title} has full weights and no adapter.",
            fix="Choose the form merged or a GGUF form.",
            field="form",
        )
    work.tell("Copying the adapter")
    for file in sorted(subject.folder.glob(ADAPTER_WEIGHTS)):
        shutil.copyfile(file, work.folder / file.name)
    base = write_adapter_settings(work.job, subject, work.folder)
    work.note_written()
    return [] if base["hub_id"] else [describe_unpublished_base(subject, base)]


def write_adapter_settings(job: WorkerJob, subject: ExportSubject, folder: Path) -> BaseReference:
    """Copy all adapter files but the weights, with a public reference to the base model.

    Only model files are copied: a registered version's folder also has its split and its config, which must
    not be published.
    """
    for name in MODEL_FILES:
        if (subject.folder / name).is_file():
            shutil.copyfile(subject.folder / name, folder / name)
    export_subject.copy_tokenizer_files(job, subject, folder)
    base = describe_public_base(subject, job)
    settings = read_json(folder / ADAPTER_SETTINGS)
    write_json(
        folder / ADAPTER_SETTINGS,
        settings | {"base_model_name_or_path": base["name"], "revision": base["revision"]},
    )
    return base


def describe_unpublished_base(subject: ExportSubject, base: BaseReference) -> str:
    """Return the notice for an adapter whose base model is not known to be on a hub."""
    if subject.own_base:
        return (
            "The base model was trained by an earlier run and is not on a hub. The adapter loads on no"
            " other model. The form merged needs no base model."
        )
    if base["name"] in loading.BUNDLED:
        return (
            f"The base model is {base['name']} as bundled with a package on this machine, dequantized from 4"
            " bits; the Hub model of that name has different weights. Load the adapter with the folder of"
            " this base model. The form merged needs no base model."
        )
    return (
        f"The base model is a local folder, {base['name']}, without a recorded hub id. Load the adapter with"
        " the folder of the base model. To have the adapter name its base model, train on the hub id"
        " (owner/name). The form merged needs no base model."
    )


WRITERS = {
    "adapter": write_adapter,
    "merged": write_merged,
    "merged-f32": write_merged,
    "int8": write_quantised,
    "int4": write_quantised,
    **dict.fromkeys(COMPRESSED, write_compressed),
    **dict.fromkeys(GGUF_FORMS, gguf_formats.write_gguf),
    "ollama": gguf_formats.write_ollama,
}

# Prefixes of the writers' progress messages.
MESSAGES = (
    "Merging the adapter",
    "Loading the weights",
    "Writing the weights",
    "Copying the adapter",
    "Converting to GGUF",
    "Quantizing",
)


def write(work: ExportTask) -> tuple[list[str], WrittenWeights]:
    """Write the export into the folder; return notices and the tensors as written.

    Intermediate files are removed.
    """
    notices = WRITERS[work.form.name](work)
    shutil.rmtree(work.aside / "merged", ignore_errors=True)
    if work.form.family not in ("gguf", "ollama"):
        model_settings.complete_settings(work.folder)
    written: WrittenWeights = read_json(work.aside / WRITTEN_FILE)
    return notices, written
