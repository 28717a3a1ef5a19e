"""What a base model makes of a probe, measured once and kept in the home folder.

Every run on the same base asks it the same questions on the same machine. What a run needs of them, all items
in one order, is small; asking takes as long as asking the tuned model. The key holds all that an answer
depends on: weights, precision, tokenizer, the items themselves, and the batches and threads that decide in
which order bf16 is added up.

What tells a base model from all others, for what is kept of it in the home folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from engine.probes.probes import Probe, ProbeMeasurement
from engine.rows.tokens import tokenizer_key
from store.contract.home import Home
from store.contract.jobdir import written_aside

IDENTITY = 4096  # values of a tensor, at its beginning, that tell it from others


def base_key(model: Any, tokenizer: Any, folder: Path, *parts: Any) -> str:
    """A key of the model as it is held in memory, whose weights lie in `folder`, and of `parts` of JSON."""
    held: Any = getattr(model.config, "quantization_config", None)
    identifying = [
        *parts,
        identity(folder),
        str(model.dtype),
        str(held.to_dict() if hasattr(held, "to_dict") else held),
        tokenizer_key(tokenizer),
    ]
    return hashlib.sha256(json.dumps(identifying).encode()).hexdigest()[:40]


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


VERSION = 1  # of how a probe is measured: another number, another key


@dataclass(frozen=True)
class CachedProbe:
    """A probe of the base model whose weights lie in `folder`. whole: what it is a part of. also: what
    else its answers depend on, where its items don't say."""

    probe: Probe
    home: Home
    tokenizer: Any
    folder: Path
    whole: Probe | None = None
    also: str = ""

    @property
    def name(self) -> str:
        return self.probe.name

    @property
    def tokens(self) -> int:
        return self.probe.tokens

    def __len__(self) -> int:
        return len(self.probe)

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> ProbeMeasurement:
        """As of the probe, from the cache where this base was asked before."""
        if (cached := self._cached(model, batch_size, device)) is not None:
            on_items(len(self))
            return cached
        measured = self.probe.measure(model, batch_size=batch_size, device=device, on_items=on_items)
        path = self._path(self.probe, model, batch_size, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as unfinished:
            pq.write_table(measured.table(), unfinished)
        return measured

    def is_cached(self, model: Any, batch_size: int, device: torch.device) -> bool:
        """Whether it was measured before, by itself or with the whole."""
        return self._cached(model, batch_size, device) is not None

    def _cached(self, model: Any, batch_size: int, device: torch.device) -> ProbeMeasurement | None:
        for probe in (self.probe, self.whole):
            table = _read(self._path(probe, model, batch_size, device)) if probe is not None else None
            if table is not None:
                return ProbeMeasurement.of(_rows_of(table, self.listing()["item"].to_pylist()))
        return None

    def listing(self) -> pa.Table:
        return self.probe.listing()

    def part(self, most: int) -> CachedProbe:
        return CachedProbe(
            self.probe.part(most), self.home, self.tokenizer, self.folder, self.probe, self.also
        )

    def _path(self, probe: Probe, model: Any, batch_size: int, device: torch.device) -> Path:
        items = hashlib.sha256()
        for batch in probe.listing().to_batches():
            items.update(repr(batch.to_pylist()).encode())
        how = [VERSION, probe.tokens, batch_size, str(device), torch.get_num_threads(), torch.__version__]
        how += [self.also] if self.also else []
        key = base_key(model, self.tokenizer, self.folder, self.name, items.hexdigest(), *how)
        return self.home.cache / "base_probes" / f"{key}.parquet"


def _read(path: Path) -> pa.Table | None:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None


def _rows_of(table: pa.Table, items: list[str]) -> pa.Table:
    """The rows of these items, in their order."""
    place = {item: row for row, item in enumerate(table["item"].to_pylist())}
    return table.take([place[item] for item in items])
