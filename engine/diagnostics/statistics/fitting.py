"""The nearest settings that fit into memory: those that change least of what is learned come first.

Halving a batch while doubling its accumulation changes nothing but time, and so does gradient checkpointing.
Shorter rows lose tokens, and another method is another experiment. Each kind of change is tried alone, and
where none is enough, together with the ones before it. What a setting needs is asked of `estimate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from store.documents.asks.preview import FittingChange
from store.documents.verdicts.forgetting import SettingValue

Change = dict[str, SettingValue]
Need = tuple[float, float]  # GiB: expected, and the upper end of its interval
AskNeed = Callable[[Change], Need | None]  # None where the settings don't go together

SHORTEST = 64  # tokens; shorter rows are another data set
MOST = 4  # offers


@dataclass(frozen=True)
class MemorySettings:
    """Settings of a run that decide what memory it needs beside its method; max_length in tokens, 0 for
    none."""

    batch_size: int
    accumulation: int
    checkpointing: bool
    max_length: int


def nearest(
    settings: MemorySettings, estimate: AskNeed, room_gib: float, methods: Sequence[Change] = ()
) -> list[FittingChange]:
    """Changes of the settings after which a run fits, nearest first.

    `estimate` gives what it needs with a change; `methods` change to lighter ones, in the order to try.
    """
    offers: list[FittingChange] = []

    def offer(change: Change | None) -> bool:
        need = estimate(change) if change else None
        if not change or need is None or need[1] > room_gib:
            return False
        if all(change != other["change"] for other in offers):
            offers.append({"change": change, "peak_gib": need[0], "high_gib": need[1], "text": say(change)})
        return True

    smaller = list(_batches(settings))
    lighter: Change = {} if settings.checkpointing else {"gradient_checkpointing": True}
    alone = _first(smaller, offer)
    alone = offer(lighter) or alone
    if not alone and lighter:
        _first([{**lighter, **change} for change in smaller], offer)
    least = {**lighter, **(smaller[-1] if smaller else {})}
    if not offers:
        _first([{**least, **change} for change in _lengths(settings)], offer)
    for change in methods:
        if offer(change):
            break
        if not offers and (
            offer({**change, **least})
            or _first([{**change, **least, **shorter} for shorter in _lengths(settings)], offer)
        ):
            break
    return offers[:MOST]


def _first(changes: Sequence[Change], offer: Callable[[Change], bool]) -> bool:
    return any(offer(change) for change in changes)


def _batches(settings: MemorySettings) -> Sequence[Change]:
    """Halved batches with accumulation doubled, so that a step sees as many rows as before."""
    size, times = settings.batch_size, settings.accumulation
    changes: list[Change] = []
    while size > 1:
        rows = size * times
        size //= 2
        times = max(1, round(rows / size))
        changes.append({"per_device_train_batch_size": size, "gradient_accumulation_steps": times})
    return changes


def _lengths(settings: MemorySettings) -> Sequence[Change]:
    """Half of `max_length`, again and again."""
    length = settings.max_length // 2
    changes: list[Change] = []
    while length >= SHORTEST:
        changes.append({"max_length": length})
        length //= 2
    return changes


def say(change: Change) -> str:
    """A change in words: "batches of 2 rows, 8 of them a step; gradient checkpointing"."""
    words = []
    if "method" in change:
        words.append(f"method {change['method']}")
    if change.get("load_in_4bit"):
        words.append("base model in 4 bits")
    if "per_device_train_batch_size" in change:
        size, times = change["per_device_train_batch_size"], change["gradient_accumulation_steps"]
        words.append(f"batches of {size} row{'s' * (size != 1)}, {times} of them a step")
    if change.get("gradient_checkpointing"):
        words.append("gradient checkpointing")
    if "max_length" in change:
        words.append(f"rows cut at {change['max_length']:,} tokens")
    text = "; ".join(words)
    return text[:1].upper() + text[1:]
