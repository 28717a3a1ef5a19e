"""The nearest settings that fit into memory: those that change least of what is learned come first.

Halving a batch while doubling its accumulation changes nothing but time, and so does gradient checkpointing.
Shorter rows lose tokens, and another method is another experiment. Each kind of change is tried alone, and
where none is enough, together with the ones before it. What a setting needs is asked of `estimate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Config = Mapping[str, Any]
Change = dict[str, Any]
Need = tuple[float, float]  # GiB: expected, and the upper end of its interval
Estimate = Callable[[Change], Need | None]  # None where the settings don't go together

SHORTEST = 64  # tokens; shorter rows are another data set
MOST = 4  # offers


def nearest(
    config: Config, estimate: Estimate, room_gib: float, methods: Sequence[Change] = ()
) -> list[dict[str, Any]]:
    """Changes of `config` after which a run fits: [{"change", "peak_gib", "high_gib", "text"}], nearest
    first.

    `estimate` gives what `config` needs with a change; `methods` change to lighter ones, in the order to try.
    """
    found: list[dict[str, Any]] = []

    def offer(change: Change | None) -> bool:
        need = estimate(change) if change else None
        if not change or need is None or need[1] > room_gib:
            return False
        if all(change != other["change"] for other in found):
            found.append({"change": change, "peak_gib": need[0], "high_gib": need[1], "text": say(change)})
        return True

    smaller = list(_batches(config))
    lighter: Change = {} if config["gradient_checkpointing"] else {"gradient_checkpointing": True}
    alone = _first(smaller, offer)
    alone = offer(lighter) or alone
    if not alone and lighter:
        _first([{**lighter, **change} for change in smaller], offer)
    least = {**lighter, **(smaller[-1] if smaller else {})}
    if not found:
        _first([{**least, **change} for change in _lengths(config)], offer)
    for change in methods:
        if offer(change):
            break
        if not found and (
            offer({**change, **least})
            or _first([{**change, **least, **shorter} for shorter in _lengths(config)], offer)
        ):
            break
    return found[:MOST]


def _first(changes: Sequence[Change], offer: Callable[[Change], bool]) -> bool:
    return any(offer(change) for change in changes)


def _batches(config: Config) -> Sequence[Change]:
    """Halved batches with accumulation doubled, so that a step sees as many rows as before."""
    size, times = config["per_device_train_batch_size"], config["gradient_accumulation_steps"]
    changes = []
    while size > 1:
        rows = size * times
        size //= 2
        times = max(1, round(rows / size))
        changes.append({"per_device_train_batch_size": size, "gradient_accumulation_steps": times})
    return changes


def _lengths(config: Config) -> Sequence[Change]:
    """Half of `max_length`, again and again."""
    length, changes = (config.get("max_length") or 0) // 2, []
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
