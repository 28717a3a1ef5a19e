"""The conversation as a Streamlit component, and the routes through which it streams and stops answers.

The component streams without a rerun, and reports to Python what has ended, what to show and what to keep.
The routes of the screens' server are behind access control like all pages, accept only JSON (which a page of
another site cannot send without a preflight request), and pass on the engine's response line by line. A
browser that disconnects ends the stream, not the answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import anyio
import streamlit as st
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pages.shared.data_routes import Acting, read_json_body
from pages.shared.rendered.component_source import build_component_script, build_component_style
from store.core.errors import TunebenchError
from store.http.answers import LineStream
from store.playground.schemas import Turn, TurnPlace

PATH = "/talk"
STOP_PATH = "/talk/stop"
FOLDER = Path(__file__).parent
SCRIPT = ("token_probabilities", "answers", "stream", "talk")
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
    open_turn: Callable[[str], None],
) -> Any:
    """Draw the component; its triggers are `begin` (a prompt), `done` and `show` (a turn), `keep` (turn
    and place).

    answering: the turn among `turns` that is being answered, or "".
    open_turn: called before the page is drawn with the turn that has ended, or with the last turn of the
        branch to show. Drawn first, the turn that has ended would still count as being answered.
    """

    def open_answered_turn() -> None:
        open_turn(str(st.session_state[KEY].done))

    def open_branch() -> None:
        open_turn(find_newest_leaf(tree, str(st.session_state[KEY].show)))

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
        on_done_change=open_answered_turn,
        on_show_change=open_branch,
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


# The routes that the component calls.

MAX_BODY_BYTES = 2**21
READERS = anyio.CapacityLimiter(64)  # maximum threads waiting for the engine's next line


async def handle_chat(request: Request, acting: Acting) -> Response:
    """Send the request to the engine and stream its response; a refusal is returned with its status."""
    try:
        body = await read_json_body(request, MAX_BODY_BYTES, "what is said")
        lines = acting(request).generate(body)
        first = await run_sync(next, lines, b"", limiter=READERS)
    except TunebenchError as error:
        return JSONResponse(error.to_dict(), error.status)
    return LineStream(_stream_lines(first, lines))


async def handle_stop(request: Request, acting: Acting) -> Response:
    """Ask the engine to stop answering a turn."""
    try:
        turn = str((await read_json_body(request, MAX_BODY_BYTES, "what is said")).get("turn", ""))
        await run_sync(acting(request).stop_turn, turn, limiter=READERS)
    except TunebenchError as error:
        return JSONResponse(error.to_dict(), error.status)
    return JSONResponse({})


async def _stream_lines(first: bytes, lines: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the lines. A read is never interrupted; it lasts at most until the engine's next heartbeat."""
    line = first
    try:
        while line:
            yield line
            line = await run_sync(_read_next_line, lines, limiter=READERS)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(lines.close, limiter=READERS)  # type: ignore[attr-defined]


def _read_next_line(lines: Iterator[bytes]) -> bytes:
    """Read the next line; if the engine disappears meanwhile, return a line with the error."""
    try:
        return next(lines, b"")
    except TunebenchError as error:
        return JSONResponse({"type": "broken", "error": error.to_dict()}).body + b"\n"  # type: ignore[operator]


def build_chat_routes(acting: Acting) -> list[Route]:
    """Build the routes; `acting` returns the client that acts for the person behind a request."""

    async def talking(request: Request) -> Response:
        return await handle_chat(request, acting)

    async def stopping(request: Request) -> Response:
        return await handle_stop(request, acting)

    return [Route(PATH, talking, methods=["POST"]), Route(STOP_PATH, stopping, methods=["POST"])]
