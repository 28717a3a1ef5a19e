"""The Activity page: who did what and when, newest first, filtered by person, action, subject and date.

The filters are kept in the link (`?by=ID&kind=…&things=…&days=…&text=…&about=KIND:ID&mentions=me`), so that
it can be shared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast, get_args

import streamlit as st

from pages.people import activity_feed
from pages.people.activity_feed import ABOUT, draw_line
from pages.shared.session import escape_markdown, get_current_person, live, show_errors
from store.core.formatting import plural
from store.core.schemas import SubjectKind
from store.people.activity import ALL, ActivityFilter
from store.people.activity_text import group_commands_by_kind

PAGE = 25
THINGS: dict[SubjectKind, str] = {
    "run": "Runs",
    "dataset": "Data sets",
    "row": "Rows",
    "evaluation": "Evaluations",
    "comparison": "Comparisons",
    "endpoint": "Endpoints",
    "recipe": "Recipes",
    "slice": "Slices",
    "setting": "Settings",
    "job": "Other jobs",
}
DAYS = {"": "All time", "1": "In the last day", "7": "In the last 7 days", "30": "In the last 30 days"}
EMPTY = """
No activity yet. Everything that people import, launch, change, delete, evaluate or comment on appears here,
with their name and the time. Entries are never changed or removed.
"""


def main() -> None:
    st.title("Activity", anchor=False)
    with show_errors():
        if not activity_feed.list_activity(ALL, 1, 0)[0]:
            st.markdown(EMPTY)
            return
        which = _read_filter()
        live("5s")(_draw_lines)(which)


def _draw_lines(which: ActivityFilter) -> None:
    with show_errors():
        slot = st.container(gap="xsmall", key="activity-lines")
        total, _ = activity_feed.list_activity(which, 1, 0)
        pages = max(1, -(-total // PAGE))
        digest = hashlib.sha256(repr(which).encode()).hexdigest()[:12]  # resets the page
        page = st.pagination(pages, key=f"activity-page-{digest}") if pages > 1 else 1
        _, lines = activity_feed.list_activity(which, PAGE, PAGE * (page - 1))
        with slot:
            if not lines:
                st.caption("No matching activity. Remove a filter.")
            for line in lines:
                draw_line(line)
        st.caption(f"{len(lines)} of {plural(total, 'line')}, newest first.")


def _read_filter() -> ActivityFilter:
    """Draw the filters, which are kept in sync with the link, and return the resulting filter."""
    everybody = {person.person_id: person.name for person in activity_feed.list_people()}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = _draw_search()
        person_id = _draw_choice("Person", "by", {"": "Everyone", **everybody})
        kind = _draw_choice(
            "Kind of action", "kind", {"": "Any action", **{name: name for name in group_commands_by_kind()}}
        )
        subject = _draw_choice(
            "Items", "things", {"": "All items", **{str(kind): title for kind, title in THINGS.items()}}
        )
        days = _draw_choice("Days", "days", DAYS)
        mentioned = _draw_mentions_switch()
    subject_kind, subject_id = _draw_subject_filter()
    return ActivityFilter(
        person_id=person_id,
        commands=group_commands_by_kind().get(kind, (kind,)) if kind else (),
        subject_kind=subject_kind or subject,
        subject_id=subject_id,
        search=text,
        days=int(days) if days in DAYS and days else 0,
        mentions=mentioned,
    )


def _draw_choice(label: str, name: str, options: Mapping[str, str]) -> str:
    """Draw a filter kept in sync with the link; an unknown value in the link remains selectable."""
    asked, key = st.query_params.get(name, ""), f"activity-{name}"
    texts = dict(options) if asked in options else {**options, asked: asked}
    st.session_state[key] = asked
    chosen: str = st.selectbox(
        label, list(texts), format_func=lambda value: texts.get(value, value), key=key, width=170,
        label_visibility="collapsed", on_change=_update_link, args=(name, key),
    )  # fmt: skip
    return chosen


def _draw_search() -> str:
    key = "activity-text"
    st.session_state[key] = st.query_params.get("text", "")
    typed = st.text_input(
        "Search", key=key, type="search", live="300ms", icon=":material/search:", width=240,
        placeholder="Search names and details", label_visibility="collapsed",
        on_change=_update_link, args=("text", key),
    )  # fmt: skip
    return (typed or "").strip()


def _draw_mentions_switch() -> str:
    """Draw the switch for mentions; return the id of the current person if it is on, else ""."""
    key = "activity-mentions"
    st.session_state[key] = "mentions" in st.query_params
    help_text = "Comments that mention you with @"
    switched = st.toggle(
        "Mentions of you", key=key, on_change=_update_switch_link, args=(key,), help=help_text
    )
    return get_current_person().person_id if switched else ""


def _update_link(name: str, key: str) -> None:
    """Callback: write the selected value to the link."""
    if value := (st.session_state[key] or "").strip():
        st.query_params[name] = value
    else:
        st.query_params.pop(name, None)


def _update_switch_link(key: str) -> None:
    """Callback: write the switch to the link."""
    if st.session_state[key]:
        st.query_params["mentions"] = "me"
    else:
        st.query_params.pop("mentions", None)


def _draw_subject_filter() -> tuple[str, str]:
    """Return kind and id of the subject in the link, and draw a button that removes this filter."""
    kind, _, subject_id = st.query_params.get(ABOUT, "").partition(":")
    if kind not in get_args(SubjectKind) or not subject_id:
        return "", ""
    _, lines = activity_feed.list_activity(ActivityFilter(subject_kind=kind, subject_id=subject_id), 1, 0)
    name = lines[0].subject_name if lines else subject_id
    st.button(
        f"{THINGS[cast(SubjectKind, kind)]}: {escape_markdown(name)}",
        icon=":material/close:",
        key="activity-about",
        on_click=_clear_subject,
        help="Show all items",
    )
    return kind, subject_id


def _clear_subject() -> None:
    """Callback: remove the filter by subject."""
    st.query_params.pop(ABOUT, None)


main()
