"""What tells a base model from all others, for what is kept of it in the home folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from engine.rows.tokens import tokenizer_key

IDENTITY = 4096  # values of a tensor, at its beginning, that tell it from others


def base_key(model: Any, tokenizer: Any, folder: Path, *parts: Any) -> str:
    """A key of the model as it is held in memory, whose weights lie in `folder`, and of `parts` of JSON."""
    held: Any = getattr(model.config, "quantization_config", None)
    known = [
        *parts,
        identity(folder),
        str(model.dtype),
        str(held.to_dict() if hasattr(held, "to_dict") else held),
        tokenizer_key(tokenizer),
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:40]


def identity(folder: Path) -> str:
    """Tells these weights from all others: config, and name, shape and first values of every tensor. Training
    changes every tensor that it touches all over, so that reading all of a large model isn't needed."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                part = tensors.get_slice(name)
                shape = part.get_shape()
                digest.update(f"{file.name} {name} {part.get_dtype()} {shape}".encode())
                if all(shape):
                    rows = max(1, min(shape[0], IDENTITY // int(np.prod(shape[1:])))) if shape else 0
                    values = part[:rows] if shape else tensors.get_tensor(name)
                    digest.update(
                        values.flatten()[:IDENTITY].contiguous().view(torch.uint8).numpy().tobytes()
                    )
    return digest.hexdigest()
