"""Extraction of what the log records about an answer, from complete documents or the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from engine.models.tokenization.tool_turns import StoredCall, format_calls, parse_openai_messages
from engine.serving.protocol.answers import LOGPROBS_COMMENT, LogprobTally, parse_tally, prepare_tools
from store.core.schemas import JsonObject
from store.serving.schemas import RequestKind

DONE = b"[DONE]"
MAX_EVENT_BYTES = 2 * 2**20
MAX_CALLS = 128  # calls kept per answer
MAX_NUMBER = 1e300  # larger numbers are ignored, as are NaN and infinity


class AnswerObserver:
    """What was observed of one answer so far.

    Unexpected documents leave gaps but never raise: the caller gets them unchanged.
    """

    def __init__(self) -> None:
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.finish_reason: str | None = None
        self.label: str | None = None
        self.confidence: float | None = None
        self.abstained = False
        self.pieces = 0  # pieces with text or calls, of all choices
        self.tally: LogprobTally | None = None  # reported by our own backends beside the answer
        self.invalid_calls: int | None = None  # from the same report; None: not checked
        self._calls: dict[int, StoredCall] = {}  # of the first choice, by index
        self._texts: list[str] = []
        self._logprobs: list[float] = []

    @property
    def output(self) -> str:
        """The text of the first choice; if it calls functions, in the form stored in rows."""
        text = "".join(self._texts)
        calls = [self._calls[index] for index in sorted(self._calls)]
        return format_calls(text, [_parse_arguments(call) for call in calls]) if calls else text

    @property
    def calls(self) -> int:
        """Number of functions that the first choice calls."""
        return len(self._calls)

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of the first choice's tokens, from the tally or from the answer itself."""
        if self.tally:
            return self.tally.mean
        return sum(self._logprobs) / len(self._logprobs) if self._logprobs else None

    @property
    def total_tokens(self) -> int | None:
        """Tokens used as counted by the backend; None if it didn't report any."""
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)

    def read(self, document: Mapping[str, Any]) -> None:
        """Read one document of the answer."""
        usage = document.get("usage")
        if isinstance(usage, dict):
            prompt_tokens = usage.get(
                "prompt_tokens", usage.get("input_tokens")
            )  # the names in /v1/systemone
            completion_tokens = usage.get("completion_tokens", usage.get("output_tokens"))
            self.prompt_tokens = _count(prompt_tokens, self.prompt_tokens)
            self.completion_tokens = _count(completion_tokens, self.completion_tokens)
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                self.pieces += bool(_get_text(choice) or _get_calls(choice))
                if choice.get("index", 0) == 0:
                    self._read_choice(choice)
        self._read_label(document)
        if "answers" in document:
            self._texts.append(json.dumps(document["answers"], ensure_ascii=False))
            self._read_decision(document["answers"])

    def _read_choice(self, choice: Mapping[str, Any]) -> None:
        if text := _get_text(choice):
            self._texts.append(text)
        for index, call in enumerate(_get_calls(choice)):
            self._read_call(index, call)
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish_reason = reason
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            content, flat = logprobs.get("content"), logprobs.get("token_logprobs")
            tokens = content if isinstance(content, list) else []
            values = [token.get("logprob") for token in tokens if isinstance(token, dict)]
            values += flat if isinstance(flat, list) else []
            self._logprobs += [float(value) for value in values if _is_number(value)]
        self._read_label(choice)

    def _read_call(self, position: int, call: Mapping[str, Any]) -> None:
        """Read a whole call, or a piece of one in a stream."""
        index = call.get("index", position)
        function = call.get("function")
        if type(index) is not int or not 0 <= index < MAX_CALLS or not isinstance(function, dict):
            return
        stored = self._calls.setdefault(index, {"name": "", "arguments": ""})
        if isinstance(call_id := call.get("id"), str):
            stored["id"] = call_id
        if isinstance(name := function.get("name"), str):
            stored["name"] = stored["name"] or name
        if isinstance(arguments := function.get("arguments"), str):
            stored["arguments"] += arguments

    def _read_label(self, document: Mapping[str, Any]) -> None:
        """Read `label`, `confidence` and `abstained`, which classifiers add to the answer."""
        fields = document.get("classification")
        fields = fields if isinstance(fields, dict) else document
        if "label" not in fields and "abstained" not in fields:
            return
        label, confidence = fields.get("label"), fields.get("confidence")
        self.label = label if isinstance(label, str) else None
        self.confidence = float(confidence) if _is_number(confidence) else None
        self.abstained = fields.get("abstained") is True

    def _read_decision(self, answers: Any) -> None:
        """Read the likeliest option, if there was a single question."""
        entries = list(answers.values()) if isinstance(answers, dict) else []
        if len(entries) != 1 or not isinstance(entries[0], dict):
            return
        entry, probabilities = entries[0], entries[0].get("probabilities")
        if _is_number(true_probability := entry.get("noul")):
            probabilities = {"true": true_probability, "false": 1 - true_probability}
        if (
            isinstance(probabilities, dict)
            and probabilities
            and all(_is_number(value) for value in probabilities.values())
        ):
            self.abstained = entry.get("abstained") is True
            best = max(probabilities, key=lambda option: probabilities[option])
            self.label = None if self.abstained else str(best)
            self.confidence = float(probabilities[best])


def _get_text(choice: Mapping[str, Any]) -> str:
    """Return the text of a choice, or of a piece of one."""
    message = choice.get("message") or choice.get("delta")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def _get_calls(choice: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return the calls of a choice, or pieces of them."""
    message = choice.get("message") or choice.get("delta")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _parse_arguments(call: StoredCall) -> StoredCall:
    """Parse the call's arguments as JSON; invalid JSON stays a string."""
    try:
        arguments = json.loads(call.get("arguments", ""))
    except (ValueError, RecursionError):
        return call
    return {**call, "arguments": arguments}


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and -MAX_NUMBER < value < MAX_NUMBER


def _count(value: Any, previous: int | None) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else previous


class EventSplitter:
    """Parser of server-sent events from pieces with arbitrary boundaries. `tally`: the latest one received.

    Each byte is processed once, however small the pieces are.
    """

    def __init__(self) -> None:
        self._line = bytearray()  # a partially received line
        self._data = bytearray()  # data lines of the current event, each with a newline
        self.tally: LogprobTally | None = None

    def split(self, piece: bytes) -> Iterator[bytes]:
        """Yield the data of each event completed by this piece, without comments.

        Raises ValueError for an event above the size limit.
        """
        *ends, rest = piece.split(b"\n")
        for end in ends:
            self._line += end
            line = bytes(self._line).removesuffix(b"\r")
            self._line.clear()
            if line.startswith(b"data:"):
                self._data += line[5:].strip() + b"\n"
            elif line.startswith(LOGPROBS_COMMENT):
                self.tally = parse_tally(line[len(LOGPROBS_COMMENT) :].decode("latin-1"))
            elif not line and self._data:
                yield bytes(self._data[:-1])
                self._data.clear()
        self._line += rest
        if len(self._line) + len(self._data) > MAX_EVENT_BYTES:
            raise ValueError(f"is longer than {MAX_EVENT_BYTES // 2**20} MiB")


def extract_messages(kind: RequestKind, body: Mapping[str, Any]) -> list[JsonObject]:
    """Return the request's content as messages."""
    if kind in ("chat", "labels") and isinstance(messages := body.get("messages"), list):
        turns = [message for message in messages if isinstance(message, dict)]
        return _convert_tool_turns(turns, body.get("tools"))
    if kind == "decision":
        content = {name: body.get(name) for name in ("state", "questions")}
        return [{"role": "user", "content": json.dumps(content, ensure_ascii=False)}]
    prompt = body.get("input" if kind == "embedding" else "prompt", "")
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
    return [{"role": "user", "content": text}]


def _convert_tool_turns(turns: list[JsonObject], tools: Any) -> list[JsonObject]:
    """Convert a conversation with function calls to the form stored in rows, for evaluation and training.

    Other conversations are unchanged.
    """
    if not tools and not any(turn.get("role") == "tool" or turn.get("tool_calls") for turn in turns):
        return turns
    try:
        return [{**row} for row in parse_openai_messages(turns, prepare_tools(tools or []))]
    except (ValueError, KeyError, TypeError, AttributeError):  # an invalid request
        return turns


def count_characters(messages: list[JsonObject]) -> int:
    """Count the characters of all texts in the messages."""
    return sum(len(text) for message in messages for text in list_texts(message.get("content")))


def list_texts(content: Any) -> list[str]:
    """Return the texts of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
