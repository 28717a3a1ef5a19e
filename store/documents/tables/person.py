"""Who asks for something."""

from __future__ import annotations

from typing import Literal, TypedDict

Role = Literal["viewer", "rater", "member", "admin"]
Right = Literal["look", "rate", "work", "govern"]


class Person(TypedDict):
    """A person, as requests and what they changed name them."""

    person_id: str
    name: str
    role: Role
