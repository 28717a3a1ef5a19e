"""What a command is: the model of its body, what it does, and who may ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from store.contract.document import Config
from store.documents.tables.job import CommandAnswer
from store.documents.tables.person import Right


class Command(NamedTuple):
    """body: the model that it is checked by. act takes what `body` parses, and with `by_person` who asks.
    makes_work: refused where the disk has no room for what a job writes."""

    body: type[Config]
    act: Callable[..., CommandAnswer]
    makes_work: bool = False
    right: Right = "work"
    by_person: bool = False
