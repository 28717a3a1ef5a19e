"""The conversation as a Streamlit component.

It streams answers from the screens' server without a rerun, and reports to Python what has ended, what to
show and what to keep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import streamlit as st

from pages.playground.chat_route import PATH, STOP_PATH
from pages.shared.rendered.component_source import build_component_script, build_component_style
from store.playground.schemas import Turn, TurnPlace

FOLDER = Path(__file__).parent
SCRIPT = ("chances", "answers", "stream", "talk")
KEY = "talk"


class PendingPrompt(TypedDict):
    """A prompt to send once the component is mounted; the id ensures that it is sent only once."""

    id: str
    prompt: str
    parent: str


def build_script() -> str:
    """Build the JavaScript of the component as one module."""
    return build_component_script(FOLDER / "script", SCRIPT)


def draw_chat(
    conversation: str,
    turns: list[Turn],
    tree: list[TurnPlace],
    labels: list[str],
    *,
    say: PendingPrompt | None,
    answering: str,
) -> Any:
    """Draw the component; its triggers are `begin` (a prompt), `done` and `show` (a turn), `keep` (turn
    and place).

    answering: the turn among `turns` that is being answered, or "".
    """
    component = st.components.v2.component(
        "tunebench-talk",
        html='<div id="talk-root">\n</div>',
        css=build_component_style(FOLDER / "talk.css"),
        js=build_script(),
    )
    return component(
        key=KEY,
        data={
            "address": PATH,
            "stopAddress": STOP_PATH,
            "answering": answering,
            "conversation": conversation,
            "path": [_serialize_turn(turn, tree) for turn in turns],
            "labels": labels,
            "say": say,
            "kept": True,
            "offline": False,
            "placeholder": "Message the models" if labels else "Choose a model first",
        },
        on_begin_change=_ignore_trigger,
        on_done_change=_ignore_trigger,
        on_show_change=_ignore_trigger,
        on_keep_change=_ignore_trigger,
    )


def _ignore_trigger() -> None:
    """Do nothing; a trigger can only be read if it has a callback."""


def _serialize_turn(turn: Turn, tree: list[TurnPlace]) -> dict[str, object]:
    """Serialize a turn for the component; tokens become short lists, because there are thousands."""
    parent = turn.parent_id
    return {
        "turn": turn.turn_id,
        "parent": parent or "",
        "prompt": turn.prompt,
        "siblings": [place.turn_id for place in tree if place.parent_id == parent],
        "answers": [
            {
                "place": answer.place,
                "label": answer.label,
                "reason": answer.reason,
                "figures": answer.figures,
                "error": answer.error,
                "tokens": [
                    [
                        token["text"],
                        token["logprob"],
                        [[other["text"], other["logprob"]] for other in token["top"]],
                    ]
                    for token in answer.tokens
                ],
            }
            for answer in turn.answers
        ],
    }


def find_newest_leaf(tree: list[TurnPlace], turn_id: str = "") -> str:
    """Return the last turn of the newest branch below a turn, or of all turns; "" if there is none."""
    leaf = turn_id
    while True:
        after = [place for place in tree if (place.parent_id or "") == leaf]
        if not after:
            return leaf
        leaf = after[-1].turn_id
