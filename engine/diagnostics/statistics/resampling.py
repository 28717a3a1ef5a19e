"""Draws of a simulation in parts that fit memory: what is held at a time has a limit. Pure."""

from __future__ import annotations

from collections.abc import Iterator


def parts(draws: int, width: int, most: int) -> Iterator[int]:
    """How many draws to make at a time: of all `draws`, each of `width` numbers, so that no more than `most`
    numbers are held; one draw at least."""
    at_once = max(1, most // max(1, width))
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)
