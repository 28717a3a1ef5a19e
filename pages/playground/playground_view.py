"""The playground: its conversation, who takes part in it, and what is done with what was said."""

from __future__ import annotations

import streamlit as st

from pages.playground import conversation_export, playground_reads
from pages.playground.playground_kept import draw_kept, keep_dialog
from pages.playground.playground_models import draw_models, labels
from pages.playground.rate_answers import draw_rate_button, draw_round_link
from pages.playground.talk_component import Said, newest_leaf, talk_component
from pages.shared import quantities, reads
from pages.shared.session import act, engine_error, guarded, live, plain
from store.config.judging.talk_config import TalkSettings
from store.contract.errors import TunebenchError
from store.documents.talk.conversation import Conversation, SettingsDocument, Turn, TurnPlace
from store.documents.talk.talk_events import PlaygroundState

SAY = "playground-say"  # in the session: what is said as soon as its conversation is there


def draw() -> None:
    """The whole screen."""
    wanted = st.query_params.get("conversation", "")
    conversation = _find(wanted)
    _draw_head(conversation)
    if not reads.models() and not reads.run_count("", ("finished",)) and not conversation:
        _draw_nothing()
        return
    own = conversation["conversation_id"] if conversation else "new"
    settings = draw_models(conversation["settings"] if conversation else None, own)
    _draw_memory()
    if conversation and settings and _differ(settings, conversation["settings"]):
        act("edit_conversation", {"conversation": own, "settings": settings})
    _draw_talk(conversation, settings)
    draw_kept()


def _differ(settings: SettingsDocument, kept: SettingsDocument) -> bool:
    now, before = TalkSettings.parse(dict(settings)), TalkSettings.parse(dict(kept))
    return (now.system, now.models, now.common) != (before.system, before.models, before.common)


def _find(wanted: str) -> Conversation | None:
    if not wanted:
        return None
    try:
        return playground_reads.conversation(wanted)
    except TunebenchError as error:
        if engine_error() is not None:
            raise
        st.warning(f"{plain(error.message)} {plain(error.fix)}", icon=":material/forum:")
        st.query_params.clear()
        return None


def _draw_head(conversation: Conversation | None) -> None:
    """The conversation's name, the others, and what can be done with it."""
    count, listed = playground_reads.listed()
    if not count:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        title = conversation["title"] if conversation else ""
        st.markdown(f"**{plain(title)}**" if title else "**A new conversation**", width="stretch")
        if conversation and st.button("New", icon=":material/add:"):
            st.query_params.clear()
            st.rerun()
        with st.popover(f"Conversations ({count})", icon=":material/history:"):
            for line in listed:
                when = f"{plain(line['made_by'])}, {quantities.ago(line['changed_at'])}"
                link = f"/playground?conversation={line['conversation_id']}"
                st.markdown(f"[{plain(line['title'] or 'Nothing said yet')}]({link})  \n:small[{when}]")
            if count > len(listed):
                st.caption(f"The newest {len(listed)} of {count}.")
        if conversation:
            draw_rate_button(conversation)
            with st.popover("More", icon=":material/more_horiz:"):
                _draw_export(conversation)
                _draw_edit(conversation)
    if conversation:
        draw_round_link(conversation)


def _draw_export(conversation: Conversation) -> None:
    """The branch that is open, as a file."""
    leaf = _leaf(playground_reads.tree(conversation["conversation_id"]))
    turns = playground_reads.path(conversation["conversation_id"], leaf) if leaf else []
    if not turns:
        return
    name = conversation_export.file_name(conversation["title"])
    rows = conversation_export.as_jsonl(turns)
    text = conversation_export.as_markdown(conversation["title"], turns)
    st.markdown("**Export what is shown**")
    with st.container(horizontal=True):
        _draw_download("Rows (JSONL)", rows, f"{name}.jsonl", "A line for each model, as an import takes it.")
        _draw_download("Text (Markdown)", text, f"{name}.md", "All turns and answers, to be read.")
    if missing := conversation_export.left_out(turns):
        st.caption(missing)


def _draw_download(label: str, text: str, file: str, what: str) -> None:
    icon = ":material/download:"
    st.download_button(label, text, file, icon=icon, disabled=not text, on_click="ignore", help=what)


def _draw_edit(conversation: Conversation) -> None:
    own = conversation["conversation_id"]
    name = st.text_input("Title", conversation["title"], max_chars=200, key=f"playground-title-{own}")
    if st.button("Rename", disabled=not name.strip() or name == conversation["title"]):
        act("edit_conversation", {"conversation": own, "title": name}, "Renamed.")
        st.rerun()
    st.markdown("Deleting removes all its turns and answers; rows that were kept of it stay.")
    pressed = st.button("Delete this conversation", icon=":material/delete:")
    if pressed and act("delete_conversation", {"conversation": own}, "It is deleted.") is not None:
        st.query_params.clear()
        st.rerun()


def _draw_nothing() -> None:
    st.markdown(
        "There is no model yet. Run the sample experiment, which brings a small one, or launch a run: what it"
        " was and what it became can be talked to here side by side."
    )
    with st.container(horizontal=True):
        st.page_link(
            "pages/overview/overview.py", label="Run the sample experiment", icon=":material/play_arrow:"
        )
        st.page_link("pages/launch/launch.py", label="Set up a run yourself", icon=":material/tune:")


@live("5s")
def _draw_memory() -> None:
    """What holds the models, and what they give way to."""
    with guarded():
        state = playground_reads.state()
        if state["machine_has"]:
            st.caption(_beside(state) if state["beside"] else _waits(state))
        elif state["state"] == "ready" and state["loaded"]:
            held = ", ".join(plain(name) for name in state["loaded"])
            gpu = f" and {quantities.size(state['gpu_bytes'])} of the GPU" if state["gpu_bytes"] else ""
            memory = quantities.size(state["memory_bytes"] or 0)
            st.caption(f":material/memory: Held ready: {held}. The process takes {memory} of memory{gpu}.")
        else:
            st.caption(":material/memory: No model is held in memory; the first answer loads what it needs.")


def _beside(state: PlaygroundState) -> str:
    """That models share the machine with a run, and what this costs it."""
    costs = (
        f"While they do, each of its steps takes {state['slowdown']:.2f} times as long."
        if state["slowdown"]
        else "What that costs the run is said here once it has made some steps with answers and without."
    )
    return (
        f":material/hourglass_top: “{plain(state['machine_has'] or '')}” has the machine. Models answer"
        f" beside it with a small share, slower than by themselves. {costs}"
    )


def _waits(state: PlaygroundState) -> str:
    """What models wait for, and for how long."""
    left = state["seconds_left"]
    time = f", by its own count for about {quantities.span(left)} more" if left is not None else ""
    return (
        f":material/hourglass_top: “{plain(state['machine_has'] or '')}” has the machine{time}. Models wait"
        " until it is over: it leaves them too little memory, or nobody knows how much it takes. Stop ends"
        " the wait; endpoints answer at once."
    )


def _draw_talk(conversation: Conversation | None, settings: SettingsDocument | None) -> None:
    own = conversation["conversation_id"] if conversation else ""
    tree = playground_reads.tree(own) if own else []
    leaf = _leaf(tree)
    turns = playground_reads.path(own, leaf) if leaf else []
    names = labels(settings) if settings else []
    say: Said | None = st.session_state.get(SAY)
    going = set(playground_reads.state()["answering"])
    component = talk_component(
        own,
        turns,
        tree,
        names,
        say=say if say and say["id"] == own else None,
        answering=next((turn["turn_id"] for turn in reversed(turns) if turn["turn_id"] in going), ""),
    )
    if component.begin and settings:
        _begin(str(component.begin), settings)
    if component.done:
        _go_to(str(component.done))
    if component.show:
        _go_to(newest_leaf(tree, str(component.show)))
    if component.keep:
        _keep(turns, component.keep)


def _leaf(tree: list[TurnPlace]) -> str:
    """The turn that the link names, or the last of the newest branch."""
    asked = st.query_params.get("turn", "")
    return asked if any(place["turn_id"] == asked for place in tree) else newest_leaf(tree)


def _go_to(turn_id: str) -> None:
    st.session_state.pop(SAY, None)
    st.cache_data.clear()
    st.query_params["turn"] = turn_id
    st.rerun()


def _begin(prompt: str, settings: SettingsDocument) -> None:
    begun = act("begin_conversation", {**settings})
    if begun is None:
        return
    own = begun["conversation_id"]
    st.session_state[SAY] = Said(id=own, prompt=prompt, parent="")
    st.query_params.from_dict({"conversation": own})
    st.rerun()


def _keep(turns: list[Turn], asked: dict[str, object]) -> None:
    turn = next((turn for turn in turns if turn["turn_id"] == asked.get("turn")), None)
    place = asked.get("place")
    if turn is not None and isinstance(place, int):
        keep_dialog(turn, place)
