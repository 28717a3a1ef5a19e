"""Probes: named sets of items, measured the same way on the base model, on checkpoints and on the tuned
model.

Whatever its kind, a probe gives one row per item, in the same order each time, so that two models are
compared item by item. A base model's results are measured once and cached in the home folder, under a key of
everything that the results depend on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from engine.models.losses import RowLosses, compute_row_losses
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import compute_tokenizer_key
from store.core.home import Home
from store.core.job_folder import write_atomically

# What may be measured during training is decided in `engine.training.validation`.

OnItems = Callable[[int], None]
TRAINED_ROWS = "train_rows"  # trained rows; the other probes measure what the model should still know
ITEM_SCHEMA = pa.schema(
    [
        ("probe", pa.string()),
        ("item", pa.string()),
        ("category", pa.string()),
        ("text", pa.string()),
        ("options", pa.list_(pa.string())),  # empty for texts
        ("right", pa.int32()),  # index of the right option, -1 for texts
    ]
)


@dataclass(frozen=True)
class ProbeMeasurement:
    """Measurement of one probe's items under one model.

    `loss_sum`: in nats, of a text over its `tokens`, of a choice that of the right one of its `options`.
    `correct`: tokens predicted greedily, or 1 for a right choice. `chosen`: index of the option, -1 for a
    text. rows: the row losses from which it was measured, only while in memory.
    """

    probe: str
    items: Sequence[str]
    categories: Sequence[str]
    loss_sum: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    options: np.ndarray
    chosen: np.ndarray
    rows: RowLosses | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics to store as curves."""
        tokens = max(1, int(self.tokens.sum()))
        curves = {f"probe/{self.probe}/loss": float(self.loss_sum.sum() / tokens)}
        if self.options.any():
            curves[f"probe/{self.probe}/accuracy"] = float(self.correct.sum() / tokens)
        return curves

    @classmethod
    def of(cls, table: pa.Table) -> ProbeMeasurement:
        """Read one probe's measurement as written by `table`."""
        numbers = (table[name].to_numpy() for name in ("loss_sum", "tokens", "correct", "options", "chosen"))
        items, categories = (table[name].to_pylist() for name in ("item", "category"))
        return cls(table["probe"][0].as_py(), items, categories, *numbers)

    def table(self, **same: Any) -> pa.Table:
        """Convert to a table, with the constant columns `same`: the step or the model that was measured."""
        return pa.table(
            {
                **{name: [value] * len(self) for name, value in same.items()},
                "probe": [self.probe] * len(self),
                "item": list(self.items),
                "category": list(self.categories),
                "loss_sum": self.loss_sum.astype(np.float64),
                "tokens": self.tokens.astype(np.int64),
                "correct": self.correct.astype(np.int64),
                "options": self.options.astype(np.int32),
                "chosen": self.chosen.astype(np.int32),
            }
        )


class Probe(Protocol):
    """Named set of items."""

    @property
    def name(self) -> str:
        """Name, as used in the names of its metrics."""

    def __len__(self) -> int: ...

    @property
    def tokens(self) -> int:
        """Approximate number of tokens processed by the model."""

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = ...
    ) -> ProbeMeasurement:
        """Measure all items under a model, whose train/eval mode is restored."""

    def listing(self) -> pa.Table:
        """Return the items as a table in ITEM_SCHEMA."""

    def part(self, most: int) -> Probe:
        """Return at most `most` of its items, spread evenly and thus over its categories."""


@dataclass(frozen=True)
class TextProbe:
    """Probe of texts: the loss on every token except the first."""

    name: str
    items: Sequence[str]
    categories: Sequence[str]
    texts: Sequence[str]
    rows: TokenRows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        return len(self.rows.ids)

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = lambda done: None
    ) -> ProbeMeasurement:
        losses = compute_row_losses(model, self.rows, batch_size=batch_size, device=device, on_batch=on_items)
        none = np.zeros(len(self), np.int32)
        return ProbeMeasurement(
            self.name, self.items, self.categories,
            losses.loss_sum, losses.tokens, losses.correct, none, none - 1,
        )  # fmt: skip

    def listing(self) -> pa.Table:
        count = len(self)
        columns = [[self.name] * count, self.items, self.categories, self.texts, [[]] * count, [-1] * count]
        return pa.table(columns, schema=ITEM_SCHEMA)

    def part(self, most: int) -> TextProbe:
        chosen = select_evenly(len(self), most)
        whole = (self.items, self.categories, self.texts)
        items, categories, texts = ([column[i] for i in chosen] for column in whole)
        return TextProbe(self.name, items, categories, texts, self.rows.take(chosen))


def select_evenly(count: int, most: int) -> np.ndarray:
    """Return at most `most` of the indices 0 … count - 1, evenly spaced."""
    if count <= most:
        return np.arange(count)
    return np.floor(np.arange(most) * count / most).astype(np.int64)


def build_text_probe(
    name: str,
    items: Sequence[str],
    categories: Sequence[str],
    texts: Sequence[str],
    ids: Sequence[np.ndarray],
) -> TextProbe:
    """Build a probe from texts with their token IDs, at least two tokens each."""
    lengths = np.array([len(row) for row in ids], np.int64)
    if (lengths < 2).any():
        raise ValueError(f"Text {items[int(np.argmin(lengths))]!r} of {name} has no token after its first.")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.ones(int(starts[-1]), bool)
    trained[starts[:-1]] = False
    whole, reasons = np.concatenate(ids).astype(np.int32), np.zeros(len(ids), np.uint8)
    rows = TokenRows(np.arange(len(ids)), starts, whole, trained, reasons)
    return TextProbe(name, items, categories, texts, rows)


# Cache of a base model's probe results in the home folder.
#
# Every run on the same base measures the same items on the same machine. The results, all items in one order,
# are small; measuring takes as long as for the tuned model. The key contains everything that the results
# depend on: weights, precision, tokenizer, the items themselves, and the batches and threads that determine
# the order in which bf16 values are summed.

IDENTITY_FILE = 4096  # leading values of a tensor that identify it


def build_cache_key(model: Any, tokenizer: Any, folder: Path, *parts: Any) -> str:
    """Return a key of the model as held in memory, with its weights in `folder`, and of the JSON `parts`."""
    held: Any = getattr(model.config, "quantization_config", None)
    identifying = [
        *parts,
        compute_weights_id(folder),
        str(model.dtype),
        str(held.to_dict() if hasattr(held, "to_dict") else held),
        compute_tokenizer_key(tokenizer),
    ]
    return hashlib.sha256(json.dumps(identifying).encode()).hexdigest()[:40]


def compute_weights_id(folder: Path) -> str:
    """Compute an identifier of these weights from the config and every tensor's name, shape and first values.

    Training changes all of a tensor that it updates, so that a large model needn't be read completely.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                part = tensors.get_slice(name)
                shape = part.get_shape()
                digest.update(f"{file.name} {name} {part.get_dtype()} {shape}".encode())
                if all(shape):
                    rows = max(1, min(shape[0], IDENTITY_FILE // int(np.prod(shape[1:])))) if shape else 0
                    values = part[:rows] if shape else tensors.get_tensor(name)
                    digest.update(
                        values.flatten()[:IDENTITY_FILE].contiguous().view(torch.uint8).numpy().tobytes()
                    )
    return digest.hexdigest()


VERSION = 1  # of the measuring method; part of the cache key


@dataclass(frozen=True)
class CachedProbe:
    """Cached probe of the base model with weights in `folder`. whole: the probe that it is a part of. also:
    what else its results depend on, beyond its items.
    """

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
        """Measure the probe, or read the results from the cache if this base was measured before."""
        if (cached := self._cached(model, batch_size, device)) is not None:
            on_items(len(self))
            return cached
        measured = self.probe.measure(model, batch_size=batch_size, device=device, on_items=on_items)
        path = self._path(self.probe, model, batch_size, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as unfinished:
            pq.write_table(measured.table(), unfinished)
        return measured

    def is_cached(self, model: Any, batch_size: int, device: torch.device) -> bool:
        """Return whether it was measured before, by itself or as part of the whole."""
        return self._cached(model, batch_size, device) is not None

    def _cached(self, model: Any, batch_size: int, device: torch.device) -> ProbeMeasurement | None:
        for probe in (self.probe, self.whole):
            table = _read(self._path(probe, model, batch_size, device)) if probe is not None else None
            if table is not None:
                place = {item: row for row, item in enumerate(table["item"].to_pylist())}
                rows = [place[item] for item in self.listing()["item"].to_pylist()]
                return ProbeMeasurement.of(table.take(rows))
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
        key = build_cache_key(model, self.tokenizer, self.folder, self.name, items.hexdigest(), *how)
        return self.home.cache / "base_probes" / f"{key}.parquet"


def _read(path: Path) -> pa.Table | None:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
