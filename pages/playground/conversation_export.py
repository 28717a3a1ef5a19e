"""A conversation as a file: what each model was told and said, as rows for an import, or to be read."""

from __future__ import annotations

import json
import re

from engine.diagnostics.phrasing import plural
from store.documents.data.row import Message
from store.documents.talk.conversation import Turn, TurnAnswer
from store.queries import conversations

ENDS = {
    "length": "ended at the longest answer",
    "stop": "ended at a stop string",
    "stopped": "stopped",
    "failed": "failed",
}


def as_jsonl(turns: list[Turn]) -> str:
    """A line for each model that spoke last, with the whole of the conversation as it was for that one:
    `messages`, as the import's format of that name takes them, and `model`."""
    rows = [{"messages": messages, "model": label} for label, messages in _conversations(turns)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_markdown(title: str, turns: list[Turn]) -> str:
    """Turn by turn: what was said, quoted, and below it what each model answered, as it wrote it."""
    parts = [f"# {' '.join(title.split()) or 'A conversation'}"]
    if turns and (system := turns[0]["settings"]["system"]):
        parts.append(f"System prompt:\n\n{_quoted(system)}")
    for number, turn in enumerate(turns, 1):
        parts.append(f"## {number}. {turn['said_by']}\n\n{_quoted(turn['prompt'])}")
        parts += [f"### {answer['label']}\n\n{answer['text']}{_end(answer)}" for answer in turn["answers"]]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def left_out(turns: list[Turn]) -> str:
    """What of the conversation is no part of the rows, in words; empty where all is."""
    unanswered = sum(all(a["reason"] == "failed" for a in turn["answers"]) for turn in turns)
    return f"{plural(unanswered, 'turn')} without an answer: in the Markdown alone." if unanswered else ""


def file_name(title: str) -> str:
    """Of an exported conversation, without its ending."""
    return "-".join(re.findall(r"\w+", title.lower()))[:60] or "conversation"


def _conversations(turns: list[Turn]) -> list[tuple[str, list[Message]]]:
    answered = [turn for turn in turns if any(a["reason"] != "failed" for a in turn["answers"])]
    if not answered:
        return []
    last = answered[-1]
    return [
        (
            answer["label"],
            conversations.messages_for(
                turns, conversations.speaker(last, answer), last["settings"]["system"]
            )[0],
        )
        for answer in last["answers"]
        if answer["reason"] != "failed"
    ]


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _end(answer: TurnAnswer) -> str:
    """How the answer ended, where it was not by itself."""
    words = ENDS.get(answer["reason"], "")
    why = f": {answer['error']['message']}" if answer["error"] else ""
    return f"\n\n*({words}{why})*" if words else ""
