"""Fields that two people may be editing at the same time.

A form remembers the value it was first drawn with. If somebody has changed it since, both values are shown
and the person chooses; their draft is kept until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from pages.shared.session import escape_markdown, get_client, show_error
from store.core.errors import ConflictError, TunebenchError

Fields = Mapping[str, Any]


class FieldEdit:
    """An edit of an item's fields.

    `present`: present values in the store; `key`: prefix of the session keys. Widgets have
    `widget_key(field)` as their key and `seen[field]` as initial value; the widget of the first field must
    always be drawn. whole: the fields are only meaningful together and are saved together.
    """

    def __init__(self, key: str, present: Fields, *, whole: bool = False) -> None:
        self._key, self._present, self._whole = key, present, whole
        if self.widget_key(next(iter(present))) not in st.session_state:  # a new form
            st.session_state[f"{key}-seen"] = dict(present)
            st.session_state.pop(f"{key}-conflict", None)
            st.session_state.pop(f"{key}-drawn", None)
        self.seen: dict[str, Any] = st.session_state[f"{key}-seen"]

    def widget_key(self, field: str) -> str:
        """Return the key of a field's widget; it changes with each new form, so that the widget is reset."""
        return f"{self._key}-{st.session_state.get(f'{self._key}-form', 0)}-{field}"

    def changed(self, typed: Fields) -> dict[str, Any]:
        """Return the fields that the person has changed; all fields if `whole` and one has changed."""
        changed = {field: value for field, value in typed.items() if value != self.seen[field]}
        return dict(typed) if changed and self._whole else changed

    def save(self, command: str, body: Fields, typed: Fields, done: str) -> bool:
        """Send the changed fields; return whether they were saved. A conflict is shown from then on."""
        changed = self.changed(typed)
        seen = {field: self.seen[field] for field in changed}
        try:
            get_client().command(command, {**body, **changed, "seen": seen})
        except ConflictError as error:
            st.session_state[f"{self._key}-conflict"] = error.message
            st.cache_data.clear()
            st.rerun()
        except TunebenchError as error:
            show_error(error)
            return False
        st.cache_data.clear()
        st.toast(done, icon=":material/check:")
        self.begin_anew()
        return True

    def begin_anew(self) -> None:
        """Callback: start a new form with the values in the store."""
        st.session_state[f"{self._key}-form"] = st.session_state.get(f"{self._key}-form", 0) + 1

    def take_mine(self, titles: Mapping[str, str], typed: Fields, words: Callable[[Any], str] = str) -> bool:
        """Draw a conflict with both versions and the choice between them.

        Return whether the person has just chosen their own version, having seen the other.
        """
        message: str | None = st.session_state.get(f"{self._key}-conflict")
        if message is None:
            return False
        theirs: dict[str, Any] = st.session_state.get(f"{self._key}-drawn", dict(self._present))
        st.session_state[f"{self._key}-drawn"] = dict(self._present)
        with st.container(border=True, key=f"{self._key}-conflict-box"):
            st.markdown(f":orange[:material/group:] **{escape_markdown(message)}** Choose a version.")
            for field, value in self.changed(typed).items():
                if self._present[field] not in (self.seen[field], value):
                    _draw_conflict(titles[field], words(self._present[field]), words(value))
            with st.container(horizontal=True):
                st.button("Keep theirs", key=f"{self._key}-theirs", on_click=self.begin_anew)
                chosen = st.button("Overwrite", type="primary", key=f"{self._key}-mine")
        if chosen:  # overwrites only what was shown when it was pressed
            self.seen.update(theirs)
            st.session_state.pop(f"{self._key}-conflict")
            st.session_state.pop(f"{self._key}-drawn")
        return chosen


def _draw_conflict(title: str, theirs: str, mine: str) -> None:
    for column, whose, text in zip(st.columns(2), ("now", "yours"), (theirs, mine), strict=True):
        with column:
            st.caption(f"{title}, {whose}")
            st.text(text or "(nothing)")
