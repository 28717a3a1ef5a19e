"""What people keep of a conversation: test cases, answers corrected into training rows, answers sent to a
rating round; and the queries of the playground.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared import cached_queries, display
from pages.shared.model_form import ModelForm
from pages.shared.session import (
    cached,
    escape_markdown,
    get_client,
    get_current_person,
    has_right,
    send_command,
    show_error,
)
from pages.shared.text_display import show_text
from store.core.errors import TunebenchError
from store.core.formatting import plural
from store.http.schemas import PlaygroundState
from store.playground import conversations
from store.playground.config import number_duplicates
from store.playground.schemas import (
    AnswersToRate,
    Conversation,
    ConversationSummary,
    KeptRow,
    RatableTurns,
    Turn,
    TurnPlace,
)
from store.rating.config import COMPARING, RoundConfig
from store.rating.templates import PROTOCOL_CAPTIONS, PROTOCOL_TITLES, TEMPLATES, find_named_model

MAX_CONVERSATIONS = 50  # maximum conversations listed


@cached(cached_queries.LIVE, max_entries=4)
def list_conversations() -> tuple[int, list[ConversationSummary]]:
    """Number of conversations, and the newest ones."""
    return conversations.count(get_client()), conversations.conversations(get_client(), MAX_CONVERSATIONS)


@cached(cached_queries.LIVE, max_entries=32)
def read_conversation(conversation_id: str) -> Conversation:
    return conversations.get_conversation(get_client(), conversation_id)


@cached(cached_queries.LIVE, max_entries=32)
def read_turn_tree(conversation_id: str) -> list[TurnPlace]:
    return conversations.tree(get_client(), conversation_id)


@cached(cached_queries.LIVE, max_entries=32)
def read_branch(conversation_id: str, leaf: str) -> list[Turn]:
    return conversations.path(get_client(), conversation_id, leaf)


@cached(cached_queries.LIVE, max_entries=32)
def list_ratable_turns(conversation_id: str, models: str | None) -> RatableTurns:
    """Turns that can be rated. models: of the round, as JSON; None: those of the conversation."""
    return conversations.answers_to_rate(
        get_client(), conversation_id, json.loads(models) if models else None
    )


@cached(cached_queries.LIVE, max_entries=8)
def list_answered_by(names: tuple[str, ...], made_by: str) -> list[ConversationSummary]:
    return conversations.answered_by(get_client(), list(names), made_by)


@cached(cached_queries.LIVE, max_entries=4)
def list_kept_rows() -> list[KeptRow]:
    return conversations.kept_rows(get_client())


@cached(cached_queries.LIVE, max_entries=4)
def read_state() -> PlaygroundState:
    return get_client().playground()


KINDS = {"training": "A training row", "test": "A test case"}
WORDS = {"training": "training rows", "test": "test cases"}
ALONE = "New data set"


@st.dialog("Save this response", width="large")
def draw_keep_dialog(turn: Turn, place: int) -> None:
    """Draw the corrected response and its purpose."""
    answer = next(answer for answer in turn.answers if answer.place == place)
    st.caption("To:")
    show_text(turn.prompt, 500)
    kind = st.segmented_control(
        "Save as", list(KINDS), default="training", format_func=lambda name: KINDS[name], required=True
    )
    right = st.text_area(
        "Corrected response",
        answer.text,
        height=260,
        help="Edit the response. Earlier turns are saved with it.",
    )
    st.caption(
        "It is listed under **Saved rows** until you create a data set from them."
        if kind == "training"
        else "It is added to the test split, which no run trains on."
    )
    if st.button("Save", type="primary", icon=":material/bookmark_add:"):
        body = {"turn": turn.turn_id, "place": place, "kind": kind, "answer": right}
        if send_command("keep_answer", body, "Saved.") is not None:
            st.rerun()


def draw_kept_rows() -> None:
    """Draw the saved rows, and forms to use them."""
    rows = list_kept_rows()
    if not rows:
        return
    waiting = [row for row in rows if row.dataset_name is None]
    with st.expander(
        f"Saved rows: {len(rows):,} ({len(waiting):,} not yet in a data set)", icon=":material/bookmarks:"
    ):
        for kind in KINDS:
            of_kind = [row for row in waiting if row.kind == kind]
            if of_kind:
                _draw_use(kind, len(of_kind))
        for row in rows:
            _draw_row(row)


def _draw_use(kind: str, count: int) -> None:
    """Draw a form that creates a data set from the rows not yet used."""
    sets = (
        {row.name: row for row in cached_queries.list_datasets() if row.kind == "chat"}
        if kind == "training"
        else {}
    )
    with st.form(f"playground-use-{kind}"), st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(f"**{count} {WORDS[kind] if count > 1 else WORDS[kind][:-1]}**", width="content")
        into = st.selectbox("Add to", [ALONE, *sets]) if sets else ALONE
        name = st.text_input("Name", placeholder="numbered after the old one" if sets else "")
        if not st.form_submit_button("Create data set", icon=":material/dataset:"):
            return
    body: dict[str, object] = {"kind": kind, "name": name}
    if into != ALONE:
        body["dataset"] = sets[into].dataset_id
    if send_command("use_kept_rows", body, "Creating the data set.") is not None:
        st.rerun()


def _draw_row(row: KeptRow) -> None:
    with st.container(border=True):
        gone = f" · in “{escape_markdown(row.dataset_name)}”" if row.dataset_name else ""
        corrected = " · corrected" if row.corrected else ""
        who = f"{escape_markdown(row.kept_by)}, {display.format_ago(row.kept_at)}"
        st.caption(f"{KINDS[row.kind]}{corrected} · {who}{gone}")
        show_text(row.messages[-2]["content"], 300)
        show_text(f"→ {row.messages[-1]['content']}", 600)
        if not row.dataset_name and st.button(
            "Discard", key=f"playground-forget-{row.kept_id}", icon=":material/delete:"
        ):
            send_command("forget_kept_row", {"kept": row.kept_id}, "Row discarded.")
            st.rerun()


PREFIX = "playground-rate-"
STARTED = f"{PREFIX}started"  # session state key: conversation -> the last round created from it
MAX_NAME_CHARACTERS = 120  # maximum length of a model's name in a round


def draw_rate_button(conversation: Conversation) -> None:
    """Draw the button for people who may start rounds, once there is a turn."""
    own = conversation.conversation_id
    if not has_right("work") or not read_turn_tree(own):
        return
    if st.button("Send to a rating round", icon=":material/rate_review:"):
        draw_rate_dialog(conversation)


def draw_round_link(conversation: Conversation) -> None:
    """Draw a link to the round created from the conversation in this session."""
    round_id = st.session_state.get(STARTED, {}).get(conversation.conversation_id)
    if round_id:
        st.page_link(
            "pages/rating/rating.py",
            label="Open the rating round of these answers",
            icon=":material/rate_review:",
            query_params={"round": round_id},
        )


@st.dialog("Send to a rating round", width="large")
def draw_rate_dialog(conversation: Conversation) -> None:
    """Draw the dialog that creates a round; it closes when the round is created."""
    own = conversation.conversation_id
    ratable = list_ratable_turns(own, None)
    if not ratable.lines:
        st.markdown(
            "No prompt has complete answers from two or more models yet. Send a prompt to at "
            "least two models."
        )
        _draw_excluded_turns([ratable])
        return
    taken = [ratable, *_draw_other_conversations(own, ratable)]
    lines = remove_repeated_prompts([line for each in taken for line in each.lines])
    st.markdown(f"**{plural(len(lines), 'prompt')}, {plural(len(ratable.models), 'model')}**")
    _draw_excluded_turns(taken, sum(len(each.lines) for each in taken) - len(lines))
    title = conversation.title
    form = _draw_fields("Answers" if find_named_model(title, ratable.models) else title)
    st.caption("Raters see only the answers, not which model wrote them.")
    pressed = st.button("Create round", type="primary", icon=":material/rate_review:")
    if pressed and (round_id := _start_round(form, lines, ratable.models)):
        st.session_state.setdefault(STARTED, {})[own] = round_id
        st.rerun()


def _draw_other_conversations(own: str, ratable: RatableTurns) -> list[RatableTurns]:
    """Draw the choice of other conversations and return their ratable turns.

    They are the person's own conversations with the same models.
    """
    names = list(ratable.models)
    listed = list_answered_by(tuple(names), get_current_person().name)
    others = {line.conversation_id: line for line in listed if line.conversation_id != own}
    if not others:
        return []
    chosen = st.multiselect(
        "Conversations to include",
        list(others),
        format_func=lambda key: others[key].title,
        key=f"{PREFIX}others-{own}",
        placeholder="This conversation",
        help="All your conversations with the same models",
    )
    models = json.dumps(ratable.models)
    return [list_ratable_turns(key, models) for key in chosen]


def _draw_excluded_turns(taken: list[RatableTurns], repeated: int = 0) -> None:
    """Draw how many turns are excluded from the round, and why."""
    counts = {
        "to which an answer failed or was stopped": [each.failed for each in taken],
        "where the models were asked different things: their answers before differed": [
            each.asked_otherwise for each in taken
        ],
        "that not all of the models answered": [each.other_models for each in taken],
    }
    for why, turns in counts.items():
        if count := sum(turns):
            st.caption(f"Left out: {plural(count, 'prompt')} {why}.")
    if repeated:
        st.caption(f"Left out: {plural(repeated, 'prompt')} that had the same answers before.")


def _draw_fields(title: str) -> ModelForm[RoundConfig]:
    """Draw name, protocol, overlap and instructions of the round."""
    form = ModelForm(RoundConfig, PREFIX, {"name": f"{title[:60]} (playground)", "overlap": 2})
    form.draw("name")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {key: title for key, title in PROTOCOL_TITLES.items() if key in COMPARING}
        protocol = form.draw_field("protocol", choices=titles)
        template = st.selectbox(
            "Question",
            list(TEMPLATES),
            format_func=lambda key: TEMPLATES[key].title,
            key=f"{PREFIX}template",
        )
        form.draw_field("overlap")
    st.caption(PROTOCOL_CAPTIONS[protocol])
    form.draw_field(
        "instruction", key=f"{PREFIX}instruction.{template}", present=TEMPLATES[template].instruction
    )
    return form


def _start_round(
    form: ModelForm[RoundConfig], lines: list[AnswersToRate], models: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Upload the lines as a file and start the round; return its id, or None if it was refused."""
    names = shorten_names(list(models))
    renamed = [
        {
            "messages": line["messages"],
            "answers": {names[name]: text for name, text in line["answers"].items()},
        }
        for line in lines
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in renamed)
    try:
        upload = get_client().upload("playground.jsonl", io.BytesIO(text.encode()))
    except TunebenchError as error:
        show_error(error)
        return None
    writers = [{"answers": names[name], **build_writer(model)} for name, model in models.items()]
    config = form.parse(prompts_file={"upload": upload}, models=writers, items=None)
    queued = config and send_command("start_round", config.document(), "Creating the round.")
    return queued["round_id"] if queued else None


def shorten_names(names: list[str]) -> dict[str, str]:
    """Shorten names to the maximum length in a round, and keep them distinct."""
    room = MAX_NAME_CHARACTERS - len(" (99)")
    cut = [name if len(name) <= MAX_NAME_CHARACTERS else f"{name[: room - 1]}…" for name in names]
    return dict(zip(names, number_duplicates(cut), strict=True))


def build_writer(model: Mapping[str, Any]) -> dict[str, object]:
    """Build the author of answers as a field of a round: a run or a model.

    Empty for an interpolation, which is neither, and for an endpoint, of which nothing is passed on.
    """
    if "endpoint" in model or "alpha" in model:
        return {}
    return {name: model[name] for name in ("run", "checkpoint", "model") if name in model}


def remove_repeated_prompts(lines: list[AnswersToRate]) -> list[AnswersToRate]:
    """Remove repeated prompts with equal answers."""
    return list({json.dumps(line, sort_keys=True): line for line in lines}.values())
