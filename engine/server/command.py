"""What a command is: the model of its body, what it does, and whether it makes work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from store.contract.document import Config
from store.documents.tables.job import CommandAnswer


class Command(NamedTuple):
    """body: the model that it is checked by. act takes what `body` parses. makes_work: refused where the disk
    has no room for what a job writes."""

    body: type[Config]
    act: Callable[[Any], CommandAnswer]
    makes_work: bool = False
