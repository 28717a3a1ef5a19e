"""A conversation as a file: rows that the import of this very program takes, and a text to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pages.playground import conversation
from store.core.home import Home
from store.playground.schemas import EndReason, Turn, TurnAnswer
from tests.unit.data_job import import_file, write
from tests.unit.store_samples import row_of


def answer(place: int, text: str, reason: EndReason = "end", error: Any = None) -> TurnAnswer:
    name = ("first", "second")[place]
    about = {"label": f"{name} model", "model": {"model": name}, "tokens": [], "figures": None}
    return TurnAnswer(turn_id="t", place=place, text=text, reason=reason, error=error, **about)


def turn(prompt: str, *answers: TurnAnswer, system: str = "Be *kind*.") -> Turn:
    settings = {"system": system, "models": [{"model": "first"}, {"model": "second"}]}
    asked = {"turn_id": prompt, "conversation_id": "c", "prompt": prompt, "settings": settings}
    return row_of(Turn, said_by="Ada", answers=list(answers), **asked)


TURNS = [
    turn("Hello\nyou", answer(0, "Hi."), answer(1, "Ho.")),
    turn("Nobody?", answer(0, "", reason="failed", error={"message": "It ended."})),
    turn("And “now”?", answer(0, "# Now\n\nIt is."), answer(1, "Then", reason="stopped")),
]


def test_each_model_has_a_row_of_what_it_was_told_and_said_itself() -> None:
    rows = [json.loads(line) for line in conversation.format_jsonl(TURNS).splitlines()]
    assert [row["model"] for row in rows] == ["first model", "second model"]
    assert [message["role"] for message in rows[0]["messages"]] == ["system", *["user", "assistant"] * 2]
    assert [message["content"] for message in rows[1]["messages"]] == [
        *("Be *kind*.", "Hello\nyou", "Ho.", "And “now”?", "Then"),
    ]
    assert (
        conversation.describe_excluded_turns(TURNS)
        == "1 turn without an answer; included in the Markdown only."
    )


def test_the_import_takes_the_rows_as_they_are(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "talk.jsonl", conversation.format_jsonl(TURNS)))
    assert (done.result["format"], done.result["row_count"], done.skipped) == ("messages", 2, [])
    assert done.rows[1]["messages"][-1] == {"role": "assistant", "content": "Then"}


def test_a_conversation_without_an_answer_has_no_row() -> None:
    assert conversation.format_jsonl([]) == conversation.format_jsonl(TURNS[1:2]) == ""
    assert conversation.describe_excluded_turns(TURNS[:1]) == ""


def test_the_text_has_all_of_it() -> None:
    text = conversation.format_markdown("Of\ntime", TURNS)
    assert text.startswith("# Of time\n\nSystem prompt:\n\n> Be *kind*.\n\n## 1. Ada\n\n> Hello\n> you\n\n")
    assert "### second model\n\nThen\n\n*(stopped)*\n" in text
    assert "*(failed: It ended.)*" in text
    assert "### first model\n\n# Now\n\nIt is.\n" in text


def test_a_files_name_is_of_the_title() -> None:
    assert conversation.build_file_name("Wie geht’s, Ödön?/..") == "wie-geht-s-ödön"
    assert conversation.build_file_name("???") == "conversation"
