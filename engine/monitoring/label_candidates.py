"""From logged requests to candidates for labeling: each unique text, or response, once.

A request can be labeled if its text is stored, nobody has labeled it, and no round contains it. Requests with
the same text are one candidate; excluded requests are counted by reason. A random draw also covers requests
that are already rated: previous rounds took the hard ones, so that the rest is easier than all requests.
Pure.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from engine.monitoring.labelling_text import (
    ALREADY_ASKED,
    ANSWER_KNOWN,
    NO_ANSWER,
    NO_TEXT,
    ONE_ANSWER,
    OTHER_VERSION,
    REPEATED_REQUEST,
    SAME_ANSWER,
)
from store.core.rating_schemas import PromptTurn, RatingProtocol

LoggedRow = Mapping[str, Any]  # of store.monitoring.logged_requests.newest


@dataclass
class LabelCandidate:
    """Something to label. rows: logged responses that it stands for, the first one first; answers: one per
    version of the round, or one. parted: whether versions responded differently, None for a single
    version."""

    turns: list[PromptTurn]
    answers: list[str]
    rows: list[LoggedRow] = field(default_factory=list)
    parted: bool | None = None

    @property
    def first(self) -> LoggedRow:
        """The first response."""
        return self.rows[0]

    @property
    def text(self) -> str:
        """The last user message."""
        return next((turn["content"] for turn in reversed(self.turns) if turn["role"] == "user"), "")

    def any(self, name: str) -> bool:
        """Whether the flag is set for any of its requests."""
        return any(bool(row[name]) for row in self.rows)


class CandidateSet(NamedTuple):
    """Candidates in order of arrival. requests: number considered; left_out: excluded ones by reason;
    versions: the most frequent first; reached: already rated or labeled ones, which a random draw may
    include."""

    candidates: list[LabelCandidate]
    requests: int
    left_out: Counter[str]
    versions: list[str]
    reached: list[LabelCandidate]


def collect_candidates(requests: pa.Table, protocol: RatingProtocol, version: str = "") -> CandidateSet:
    """From rows of `newest`. Pairwise: responses to the same request from the pair of versions with the most
    requests. version: only its responses."""
    by_request: dict[str, list[LoggedRow]] = defaultdict(list)
    for row in requests.to_pylist():
        by_request[row["request_id"]].append(row)
    pair = _find_most_frequent_pair(by_request, version) if protocol == "pairwise" else ()
    parted = _find_disagreements(by_request)
    reached = _find_settled(by_request)
    candidates: dict[str, LabelCandidate] = {}
    again: dict[str, LabelCandidate] = {}
    left_out: Counter[str] = Counter()
    for rows in by_request.values():
        rows = sorted(rows, key=lambda row: row["role"] == "shadow")
        turns = parse_turns(rows[0]["messages"])
        why = reached.get(build_question_key(turns), "")
        chosen = _select_answered_rows(rows, protocol, version, pair) if turns else NO_TEXT
        if why or not isinstance(chosen, list):
            left_out[why or str(chosen)] += 1
        if not isinstance(chosen, list):
            continue
        answers = [extract_answer(row) for row in chosen]
        key = build_question_key(turns) + ("" if protocol == "label" else "\x00".join(answers))
        among = again if why else candidates
        if key in candidates:
            left_out[REPEATED_REQUEST] += 1
        entry = among.setdefault(key, LabelCandidate(turns, answers))
        entry.rows += rows if protocol == "label" else chosen
        entry.parted = parted.get(build_question_key(turns))
    listed = list(candidates.values())
    versions = Counter(candidate.first["version"] for candidate in listed).most_common()
    frequent = list(pair) or [name for name, _ in versions]
    return CandidateSet(listed, len(by_request), left_out, frequent, list(again.values()))


def parse_turns(messages: str | None) -> list[PromptTurn]:
    """The conversation as raters see it, text only; empty if no text is stored."""
    turns: list[PromptTurn] = []
    for turn in json.loads(messages) if messages else []:
        content = _extract_text(turn.get("content")) if isinstance(turn, dict) else ""
        if content:
            turns.append({"role": str(turn.get("role", "user")), "content": content})
    return turns if any(turn["content"].strip() for turn in turns) else []


def extract_answer(row: LoggedRow) -> str:
    """The response text; for a classifier the label, empty if it abstained."""
    return str(row["label"] if row["label"] is not None else row["output"] or "")


def build_question_key(turns: Sequence[PromptTurn]) -> str:
    """Equal for prompts that differ only in whitespace."""
    return "\x00".join(f"{turn['role']}\x01{' '.join(turn['content'].split())}" for turn in turns)


def _extract_text(content: Any) -> str:
    """The text parts of a message."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _find_settled(by_request: Mapping[str, Sequence[LoggedRow]]) -> dict[str, str]:
    """Prompts that need no label: key -> reason."""
    reached: dict[str, str] = {}
    for rows in by_request.values():
        for name, why in (("in_round", ALREADY_ASKED), ("labelled", ANSWER_KNOWN)):
            if any(row[name] for row in rows) and (turns := parse_turns(rows[0]["messages"])):
                reached[build_question_key(turns)] = why
    return reached


def _select_answered_rows(
    rows: Sequence[LoggedRow], protocol: RatingProtocol, version: str, pair: Sequence[str]
) -> list[LoggedRow] | str:
    """The responses to rate, or why there are none."""
    if protocol == "pairwise":
        own = {row["version"]: row for row in reversed(rows)}
        if not pair or not set(pair) <= set(own):
            return ONE_ANSWER
        both = [own[name] for name in pair]
        if any(row["output"] is None for row in both):
            return NO_ANSWER
        return SAME_ANSWER if extract_answer(both[0]) == extract_answer(both[1]) else both
    own_rows = [row for row in rows if not version or row["version"] == version]
    if not own_rows:
        return OTHER_VERSION
    if protocol != "label" and not extract_answer(own_rows[0]).strip():
        return NO_ANSWER
    return [own_rows[0]]


def _find_most_frequent_pair(by_request: Mapping[str, Sequence[LoggedRow]], version: str) -> tuple[str, ...]:
    """The two versions that responded to the same requests most often."""
    pairs: Counter[tuple[str, ...]] = Counter()
    for rows in by_request.values():
        names = sorted({row["version"] for row in rows})
        for place, first in enumerate(names):
            pairs.update((first, second) for second in names[place + 1 :])
    able = [pair for pair, _ in pairs.most_common() if not version or version in pair]
    return able[0] if able else ()


def _find_disagreements(by_request: Mapping[str, Sequence[LoggedRow]]) -> dict[str, bool]:
    """Prompt key -> whether versions responded differently; only prompts with several versions."""
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    for rows in by_request.values():
        if turns := parse_turns(rows[0]["messages"]):
            key = build_question_key(turns)
            for row in rows:
                if answer := extract_answer(row):
                    answers[key][row["version"]] = " ".join(answer.split()).casefold()
    return {key: len(set(own.values())) > 1 for key, own in answers.items() if len(own) > 1}
