"""Definition of a command: model of its body, action, and subject.

`store.core.rights` defines who may run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from store.core.config import Config
from store.core.schemas import SubjectKind
from store.http.schemas import CommandAnswer


class ActivitySubject(NamedTuple):
    """Subject of a command in the activity log.

    detail: the change in a few words. comment_id: for a command about a comment on the subject.
    """

    kind: SubjectKind
    id: str
    name: str
    detail: str = ""
    comment_id: str | None = None


# Subject created by the command; and no subject, for changes that others don't see.
CREATED: Literal["made"] = "made"
PERSONAL: Literal["personal"] = "personal"


class Command(NamedTuple):
    """A command.

    body: model that validates the request body. act: takes the parsed `body`, and with `by_person` the
    person. makes_work: refused if the disk has no space for a job's files.

    subject: function of the store and the arguments of `act`, for a subject that exists before. It is called
    then, as the command may delete or rename the subject; it returns None for what others don't see.
    """

    body: type[Config]
    act: Callable[..., CommandAnswer]
    subject: Callable[..., ActivitySubject | None] | Literal["made", "personal"]
    makes_work: bool = False
    by_person: bool = False
