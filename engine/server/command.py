"""What a command is: the model of its body, what it does, and which thing it is about. Who may ask for it is
said in `store.core.rights`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from store.core.config import Config
from store.core.schemas import SubjectKind
from store.http.schemas import CommandAnswer


class ActivitySubject(NamedTuple):
    """The thing that a command is about, as the activity names it; detail: a few words of what changed.
    comment_id: where it is about a comment on the thing."""

    kind: SubjectKind
    id: str
    name: str
    detail: str = ""
    comment_id: str | None = None


# What a command makes, which is there after it; and nothing that others see.
CREATED: Literal["made"] = "made"
PERSONAL: Literal["personal"] = "personal"


class Command(NamedTuple):
    """body: the model that it is checked by. act takes what `body` parses, and with `by_person` who asks.
    makes_work: refused where the disk has no room for what a job writes.

    subject: a function of the store and of what `act` takes, for a thing that is there before: it is looked
    up then, as after the command it may be gone or have another name; None of it is what others don't see.
    """

    body: type[Config]
    act: Callable[..., CommandAnswer]
    subject: Callable[..., ActivitySubject | None] | Literal["made", "personal"]
    makes_work: bool = False
    by_person: bool = False
