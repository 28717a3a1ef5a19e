"""The playground: its conversation, the models in it, actions on the turns, and the export as a file."""

from __future__ import annotations

import json
import re

import streamlit as st

from pages.playground import saving
from pages.playground.chat import PendingPrompt, draw_chat, find_newest_leaf
from pages.playground.models import build_model_labels, draw_models
from pages.playground.saving import draw_keep_dialog, draw_kept_rows, draw_rate_button, draw_round_link
from pages.shared import cached_queries, display
from pages.shared.session import escape_markdown, get_engine_error, live, send_command, show_errors
from store.core.errors import TunebenchError
from store.core.formatting import plural
from store.core.row_schemas import Message
from store.http.schemas import PlaygroundState
from store.playground import conversations
from store.playground.config import ChatSettings
from store.playground.schemas import (
    Conversation,
    SettingsDocument,
    Turn,
    TurnAnswer,
    TurnPlace,
)

ENDS = {
    "length": "ended at the token limit",
    "stop": "ended at a stop string",
    "stopped": "stopped",
    "failed": "failed",
}


def format_jsonl(turns: list[Turn]) -> str:
    """Format the conversation as JSONL, one line per model that answered last.

    Each line has `messages`, in the import format of that name, as that model saw them, and `model`.
    """
    rows = [{"messages": messages, "model": label} for label, messages in _list_conversations(turns)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def format_markdown(title: str, turns: list[Turn]) -> str:
    """Format the conversation as Markdown: each prompt, quoted, followed by the unmodified answers."""
    parts = [f"# {' '.join(title.split()) or 'A conversation'}"]
    if turns and (system := turns[0].settings["system"]):
        parts.append(f"System prompt:\n\n{_quote(system)}")
    for number, turn in enumerate(turns, 1):
        parts.append(f"## {number}. {turn.said_by}\n\n{_quote(turn.prompt)}")
        parts += [f"### {answer.label}\n\n{answer.text}{_describe_end(answer)}" for answer in turn.answers]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def describe_excluded_turns(turns: list[Turn]) -> str:
    """Describe the turns that are not part of the rows; "" if all are."""
    unanswered = sum(all(a.reason == "failed" for a in turn.answers) for turn in turns)
    return (
        f"{plural(unanswered, 'turn')} without an answer; included in the Markdown only."
        if unanswered
        else ""
    )


def build_file_name(title: str) -> str:
    """Build the file name of an exported conversation, without its extension."""
    return "-".join(re.findall(r"\w+", title.lower()))[:60] or "conversation"


def _list_conversations(turns: list[Turn]) -> list[tuple[str, list[Message]]]:
    answered = [turn for turn in turns if any(a.reason != "failed" for a in turn.answers)]
    if not answered:
        return []
    last = answered[-1]
    return [
        (
            answer.label,
            conversations.build_messages(
                turns, conversations.get_speaker(last, answer), last.settings["system"]
            )[0],
        )
        for answer in last.answers
        if answer.reason != "failed"
    ]


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _describe_end(answer: TurnAnswer) -> str:
    """Describe why the answer ended, unless it ended by itself."""
    words = ENDS.get(answer.reason, "")
    why = f": {answer.error['message']}" if answer.error else ""
    return f"\n\n*({words}{why})*" if words else ""


SAY = "playground-say"  # session state key: prompt to send once its conversation is open


def draw_playground() -> None:
    """Draw the page."""
    wanted = st.query_params.get("conversation", "")
    conversation = _find_conversation(wanted)
    _draw_head(conversation)
    if (
        not cached_queries.list_models()
        and not cached_queries.count_runs("", ("finished",))
        and not conversation
    ):
        _draw_empty()
        return
    own = conversation.conversation_id if conversation else "new"
    settings = draw_models(conversation.settings if conversation else None, own)
    _draw_memory()
    if conversation and settings:
        now, before = (ChatSettings.parse(dict(document)) for document in (settings, conversation.settings))
        if (now.system, now.models, now.common) != (before.system, before.models, before.common):
            send_command("edit_conversation", {"conversation": own, "settings": settings})
    _draw_talk(conversation, settings)
    draw_kept_rows()


def _find_conversation(wanted: str) -> Conversation | None:
    if not wanted:
        return None
    try:
        return saving.read_conversation(wanted)
    except TunebenchError as error:
        if get_engine_error() is not None:
            raise
        st.warning(f"{escape_markdown(error.message)} {escape_markdown(error.fix)}", icon=":material/forum:")
        st.query_params.clear()
        return None


def _draw_head(conversation: Conversation | None) -> None:
    """Draw the conversation's name, a list of others, and actions."""
    count, listed = saving.list_conversations()
    if not count:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        title = conversation.title if conversation else ""
        st.markdown(f"**{escape_markdown(title)}**" if title else "**New conversation**", width="stretch")
        if conversation and st.button("New", icon=":material/add:"):
            st.query_params.clear()
            st.rerun()
        with st.popover(f"Conversations ({count})", icon=":material/history:"):
            for line in listed:
                when = f"{escape_markdown(line.made_by)}, {display.format_ago(line.changed_at)}"
                link = f"/playground?conversation={line.conversation_id}"
                st.markdown(
                    f"[{escape_markdown(line.title or 'New conversation')}]({link})  \n:small[{when}]"
                )
            if count > len(listed):
                st.caption(f"Showing the newest {len(listed)} of {count}.")
        if conversation:
            draw_rate_button(conversation)
            with st.popover("More", icon=":material/more_horiz:"):
                _draw_export(conversation)
                _draw_edit(conversation)
    if conversation:
        draw_round_link(conversation)


def _draw_export(conversation: Conversation) -> None:
    """Draw the download of the open branch."""
    leaf = _get_leaf(saving.read_turn_tree(conversation.conversation_id))
    turns = saving.read_branch(conversation.conversation_id, leaf) if leaf else []
    if not turns:
        return
    name = build_file_name(conversation.title)
    rows = format_jsonl(turns)
    text = format_markdown(conversation.title, turns)
    st.markdown("**Export this conversation**")
    with st.container(horizontal=True):
        _draw_download("Rows (JSONL)", rows, f"{name}.jsonl", "One line per model, ready for import.")
        _draw_download("Text (Markdown)", text, f"{name}.md", "All turns and answers as readable text.")
    if missing := describe_excluded_turns(turns):
        st.caption(missing)


def _draw_download(label: str, text: str, file: str, what: str) -> None:
    icon = ":material/download:"
    st.download_button(label, text, file, icon=icon, disabled=not text, on_click="ignore", help=what)


def _draw_edit(conversation: Conversation) -> None:
    own = conversation.conversation_id
    name = st.text_input("Title", conversation.title, max_chars=200, key=f"playground-title-{own}")
    if st.button("Rename", disabled=not name.strip() or name == conversation.title):
        send_command("edit_conversation", {"conversation": own, "title": name}, "Renamed.")
        st.rerun()
    st.markdown("Deletes all turns and answers. Saved rows are kept.")
    pressed = st.button("Delete this conversation", icon=":material/delete:")
    if (
        pressed
        and send_command("delete_conversation", {"conversation": own}, "Conversation deleted.") is not None
    ):
        st.query_params.clear()
        st.rerun()


def _draw_empty() -> None:
    st.markdown(
        "No models yet. Run the sample experiment, which includes a small one, or launch a run. You can "
        "then chat with the base and the tuned model side by side."
    )
    with st.container(horizontal=True):
        st.page_link(
            "pages/overview/overview.py", label="Run the sample experiment", icon=":material/play_arrow:"
        )
        st.page_link("pages/training/launch.py", label="Set up a run yourself", icon=":material/tune:")


@live("5s")
def _draw_memory() -> None:
    """Draw the memory used by models, or the run that they have to wait for."""
    with show_errors():
        state = saving.read_state()
        if state.machine_has:
            st.caption(_describe_shared_machine(state) if state.beside else _describe_wait(state))
        elif state.state == "ready" and state.loaded:
            held = ", ".join(escape_markdown(name) for name in state.loaded)
            gpu = f" and {display.format_size(state.gpu_bytes)} of the GPU" if state.gpu_bytes else ""
            memory = display.format_size(state.memory_bytes or 0)
            st.caption(f":material/memory: Loaded: {held}. The process uses {memory} of memory{gpu}.")
        else:
            st.caption(":material/memory: No models loaded. The first message loads the models it needs.")


def _describe_shared_machine(state: PlaygroundState) -> str:
    """Describe that models share the machine with a run, and how much this slows it down."""
    costs = (
        f"Meanwhile each training step takes {state.slowdown:.2f} times as long."
        if state.slowdown
        else "The slowdown of the run is shown here once it has been measured."
    )
    return (
        f":material/hourglass_top: “{escape_markdown(state.machine_has or '')}” is running. Models respond"
        f" more slowly until it ends, with a small share of the processor. {costs}"
    )


def _describe_wait(state: PlaygroundState) -> str:
    """Describe what models wait for, and for how long."""
    left = state.seconds_left
    time = f", for about {display.format_duration(left)} more" if left is not None else ""
    return (
        f":material/hourglass_top: “{escape_markdown(state.machine_has or '')}” is running{time}. Models"
        " wait until it ends, because it leaves too little memory or its memory use is unknown. Stop"
        " cancels the wait; endpoints respond at once."
    )


def _draw_talk(conversation: Conversation | None, settings: SettingsDocument | None) -> None:
    own = conversation.conversation_id if conversation else ""
    tree = saving.read_turn_tree(own) if own else []
    leaf = _get_leaf(tree)
    turns = saving.read_branch(own, leaf) if leaf else []
    names = build_model_labels(settings) if settings else []
    say: PendingPrompt | None = st.session_state.get(SAY)
    going = set(saving.read_state().answering)
    component = draw_chat(
        own,
        turns,
        tree,
        names,
        say=say if say and say["id"] == own else None,
        answering=next((turn.turn_id for turn in reversed(turns) if turn.turn_id in going), ""),
        open_turn=_open_turn,
    )
    if component.begin and settings:
        _begin_turn(str(component.begin), settings)
    if component.keep:
        wanted = component.keep.get("turn")
        turn = next((turn for turn in turns if turn.turn_id == wanted), None)
        place = component.keep.get("place")
        if turn is not None and isinstance(place, int):
            draw_keep_dialog(turn, place)


def _get_leaf(tree: list[TurnPlace]) -> str:
    """Return the turn named in the link, or the last one of the newest branch."""
    asked = st.query_params.get("turn", "")
    return asked if any(place.turn_id == asked for place in tree) else find_newest_leaf(tree)


def _open_turn(turn_id: str) -> None:
    st.session_state.pop(SAY, None)
    st.cache_data.clear()
    st.query_params["turn"] = turn_id


def _begin_turn(prompt: str, settings: SettingsDocument) -> None:
    begun = send_command("begin_conversation", {**settings})
    if begun is None:
        return
    own = begun["conversation_id"]
    st.session_state[SAY] = PendingPrompt(id=own, prompt=prompt, parent="")
    st.query_params.from_dict({"conversation": own})
    st.rerun()
