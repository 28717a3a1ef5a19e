"""Calls of functions in answers: of one request what may be called, and of each choice what was.

A call comes whole: its text is held back until the answer has ended, and becomes a call where it is JSON of
a function that was offered. What is none stays text. Arguments that don't fit their schema are passed on, as
the protocol has it, and counted as invalid, with what was meant for a call and is none.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.metrics.form import Checking, why_not
from engine.playground.text_pieces import special_tokens
from engine.rows.call_form import CallForm
from engine.rows.tool_turns import StoredCall
from engine.serving.protocol.bodies import ChatBody
from engine.serving.protocol.forms import FormOfCall
from engine.serving.protocol.json_object import JsonObject
from engine.serving.protocol.refusals import Refused
from engine.serving.protocol.tools import MAX_CALLS
from engine.serving.worker.constraints import Grammars, GrammarState

ID_LETTERS = string.ascii_letters + string.digits
CHECK_SECONDS = 2.0  # for all calls of an answer; those that are left count as invalid
ID_LENGTH = 9  # templates of Mistral take ids of nine letters and digits alone, all others any


@dataclass(frozen=True)
class Calling:
    """What one request offers. schemas: of the arguments of each function; many: more than one call."""

    form: CallForm
    schemas: Mapping[str, JsonObject]
    many: bool
    kept: frozenset[int]  # special tokens with which calls are written
    constraint: GrammarState | None

    def reader(self) -> CallReader:
        """For one choice."""
        return CallReader(self)


def calling_of(body: ChatBody, form: CallForm, grammars: Grammars, tokenizer: object) -> Calling | None:
    """None where the answer may call nothing. Raises Refused."""
    functions = body.offered
    if not functions:
        return None
    if body.response_format and body.response_format.wanted is not None:
        raise Refused(
            "response_format and tools ask for different answers; leave one out, or set tool_choice to none.",
            field="response_format",
        )
    schemas = {name: function.schema_ for name, function in functions.items()}
    many = body.parallel_tool_calls is not False
    constraint = None
    if body.must_call or all(function.strict for function in functions.values()):
        constraint = grammars.of_calls(form, schemas, must=body.must_call, many=many)
    elif any(function.strict for function in functions.values()):
        raise Refused("strict is of all functions or of none.", field="tools")
    written = f"{form.opening}{form.between}{form.closing}"
    kept = {token for token in special_tokens(tokenizer) if grammars.text_of(token) in written}
    return Calling(form, schemas, many, frozenset(kept), constraint)


@dataclass
class CalledAnswer:
    """What an answer came to at its end. text: what of it is free yet."""

    text: str = ""
    calls: list[FormOfCall] = field(default_factory=list)
    invalid: int = 0


class CallReader:
    """Reads one choice as it is made."""

    def __init__(self, calling: Calling) -> None:
        self._calling, self._held = calling, ""
        self._is_text = False  # of a form without a marker: it did not begin as a call

    def add(self, text: str) -> str:
        """What is free of the answer, now that it goes on with this."""
        if self._is_text:
            return text
        self._held += text
        count = self._calling.form.free(self._held)
        free, self._held = self._held[:count], self._held[count:]
        self._is_text = bool(free) and not self._calling.form.marker
        return free

    def end(self, *, cut: bool) -> CalledAnswer:
        """The rest of it. cut: it is not whole, so that a call that breaks off is no mistake. Takes up to
        CHECK_SECONDS."""
        ended, form, fitting = CalledAnswer(), self._calling.form, _Fitting(self._calling.schemas)
        for piece in form.read(self._held):
            if isinstance(piece, str):
                ended.text += piece
                ended.invalid += not cut and not self._is_text and form.may_call(piece)
                continue
            for call in piece:
                self._take(call, ended, fitting)
        if ended.calls:
            ended.text = ended.text.rstrip()
        return ended

    def _take(self, call: StoredCall, ended: CalledAnswer, fitting: _Fitting) -> None:
        arguments = json.dumps(call.get("arguments"), ensure_ascii=False)
        if call["name"] not in self._calling.schemas:
            ended.text += json.dumps(call, ensure_ascii=False)
            ended.invalid += 1
            return
        if len(ended.calls) >= (MAX_CALLS if self._calling.many else 1):
            return
        ended.invalid += not fitting.fits(call["name"], arguments)
        call_id = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
        ended.calls.append(
            {"id": call_id, "type": "function", "function": {"name": call["name"], "arguments": arguments}}
        )


class _Fitting:
    """Arguments of one answer's calls, held to the schemas of their functions."""

    def __init__(self, schemas: Mapping[str, JsonObject]) -> None:
        self._schemas = schemas
        self._checking: Checking | None = None  # made for an answer that calls
        self._validators: dict[str, Any] = {}

    def fits(self, name: str, arguments: str) -> bool:
        """Whether they do; not, where that can't be checked."""
        try:
            self._checking = self._checking or Checking(CHECK_SECONDS)
            if name not in self._validators:
                self._validators[name] = self._checking.validator(self._schemas[name])
            return why_not(self._validators[name], arguments, fenced=False) is None
        except Exception:  # noqa: BLE001 (whatever the library makes of it, the answer is whole)
            return False
