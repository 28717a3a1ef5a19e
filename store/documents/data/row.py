"""Rows of a data set as JSON: their turns, and the contents of a row."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Kind = Literal["chat", "text", "preference"]  # the form in which the rows of a data set are stored


class Message(TypedDict):
    """One turn of a conversation as a row stores it."""

    role: str  # system, user, assistant; of conversations that call functions tools and tool too
    content: str


class RowContents(TypedDict):
    """What a row of a data set holds, as its columns do."""

    messages: list[Message] | None  # null for plain text
    text: str  # of a conversation prompt and answer joined
    label: str | None
    rejected: str | None  # the rejected answer of a pair


class ConvertedRow(TypedDict):
    """A row of a file as an import would store it; of messages and text one is there."""

    messages: NotRequired[list[Message]]
    text: NotRequired[str]  # of plain text alone
    label: str | None
    choices: NotRequired[list[str]]  # of multiple choice, in the order of the prompt
    answer_index: NotRequired[int | None]  # the place of the right choice, from 0
    part: NotRequired[str]  # train, validation, test, or how the row is left out; missing without one
    rejected: NotRequired[str]  # the rejected answer of a pair
