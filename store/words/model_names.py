"""Models that a text names: raters are not to know whose answers they read."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORT = 4  # characters: shorter names stand for too much else
_GAP = re.compile(r"[\W_]+")


def named_in(text: str, models: Iterable[str]) -> str | None:
    """The first of the models that the text names, however it parts the words; a folder or an owner before a
    model's name is no part of it."""
    spaced = _spaced(text)
    return next((model for model in models if len(model) > SHORT and _spaced(_own(model)) in spaced), None)


def _own(model: str) -> str:
    own = model.rstrip("/").rpartition("/")[2]
    return own if len(own) > SHORT else model


def _spaced(text: str) -> str:
    return f" {_GAP.sub(' ', text.casefold()).strip()} "
