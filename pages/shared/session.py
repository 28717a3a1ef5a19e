"""Access to the engine for every screen: a client for the current person, cached answers, errors as messages.

Invariant: no exception of `store.core.errors` ever reaches Streamlit. A screen reads and acts inside
`guarded()`; an error becomes a message where it happened, and the rest of the page is drawn. While the engine
is unreachable, queries return their last results.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, TypeVar

import streamlit as st
from pydantic import BaseModel

from pages.shared.engine_client import build_acting_client, extract_session
from store.core.errors import EngineSilent, EngineUnavailable, SignedOutError, TunebenchError
from store.core.home import Home
from store.core.rights import OWNER, RIGHTS, is_owner
from store.core.schemas import JsonObject, Person, Right
from store.http.access import hash_secret
from store.http.client import Client

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
RETRY_SECONDS = 1.0
WHO_SECONDS = 1.0
REMEMBERED = 256  # last results kept for when the engine is unreachable
REDRAW = "redraw-page"  # session state key: a live fragment has requested a rerun of the page
_IS_LIVE_RERUN = ContextVar("a live part is drawn without the rest of the page", default=False)
_MARKDOWN = re.compile(r"([\\`*_\[\]<>$~#|:])")


def get_client() -> Client:
    """The client of the home folder in the environment, acting for the person of this page run."""
    return build_acting_client(st.context.cookies)


def get_current_person() -> Person:
    """The person of this page run, refreshed about once a second; the last known one while the engine is
    unreachable.

    Raises SignedOutError if the session has ended, EngineUnavailable if the person was never known.
    """
    session, who = extract_session(st.context.cookies), _get_session()
    person: Person | None = None
    try:
        asked_at, person = _get_person_memory().get(who)
        if time.monotonic() - asked_at < WHO_SECONDS:
            return person
    except KeyError:
        pass
    try:
        person = get_client().me()
    except EngineUnavailable:
        if person is not None:
            return person
        if session:
            raise
        return OWNER  # let in by the secret, without a session
    _get_person_memory().put(who, (time.monotonic(), person))
    return person


def _get_session() -> tuple[str, str]:
    return str(Home().path), hash_secret(extract_session(st.context.cookies))


def _forget_person() -> bool:
    """Drop the cached person and return whether there was one."""
    try:
        _get_person_memory().take(_get_session())
    except KeyError:
        return False
    return True


def has_right(right: Right) -> bool:
    """Whether the person has a right. Actions without it are not offered, and the engine refuses them."""
    return right in RIGHTS[get_current_person().role]


def require_member(what: str) -> bool:
    """Whether the person may work; if not, a note says that members can do this."""
    if has_right("work"):
        return True
    role = get_current_person().role
    st.info(
        f"Members can {what}. As a {role} you can look; an admin can give you another role.",
        icon=":material/visibility:",
    )
    return False


def is_machine_owner() -> bool:
    """Whether the person owns the engine's machine; only the owner can use its file paths."""
    return is_owner(get_current_person())


@st.cache_resource(show_spinner=False)
def _get_person_memory() -> LastAnswers[tuple[float, Person]]:
    return LastAnswers(REMEMBERED)


class LastAnswers(Generic[A]):
    """A thread-safe LRU cache of last answers."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[Hashable, A] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, question: Hashable, answer: A) -> None:
        with self._lock:
            self._answers[question] = answer
            self._answers.move_to_end(question)
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)

    def get(self, question: Hashable) -> A:
        """The answer. Raises KeyError if there is none."""
        with self._lock:
            return self._answers[question]

    def take(self, question: Hashable) -> A:
        """Remove and return the answer. Raises KeyError if there is none."""
        with self._lock:
            return self._answers.pop(question)


@st.cache_resource(show_spinner=False)
def _get_memory() -> LastAnswers[Any]:
    return LastAnswers(REMEMBERED)


def fallback_to_last(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a query so that it returns its last result while the engine is unreachable. Results are kept
    by module and qualified name, since two modules may each have a query of one name.
    """

    @functools.wraps(function)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        read = (function.__module__, function.__qualname__)
        question = (str(Home().path), *read, args, tuple(sorted(kwargs.items())))
        try:
            answer = function(*args, **kwargs)
        except EngineUnavailable as error:
            try:
                remembered: R = _get_memory().get(question)
            except KeyError:
                raise error from None
            return remembered
        _get_memory().put(question, answer)
        return answer

    return ask


def cached(
    seconds: float, *, max_entries: int, spinner: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a query: cache its results for `seconds`, shared by all sessions, and keep the last ones while
    the engine is unreachable.

    max_entries: number of cached results. spinner: text shown during a long query.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        keeping = st.cache_data(ttl=seconds, max_entries=max_entries, show_spinner=spinner or False)
        return fallback_to_last(keeping(function))

    return decorate


def live(every: str | None) -> Callable[[Callable[P, object]], Callable[P, None]]:
    """Decorate a fragment that reruns every `every`, or, if None, only on interaction."""

    def decorate(draw: Callable[P, object]) -> Callable[P, None]:
        @functools.wraps(draw)
        def show(*args: P.args, **kwargs: P.kwargs) -> None:
            alone = False  # the first time it is part of a full page run

            @functools.wraps(draw)
            def part() -> None:
                nonlocal alone
                before = _IS_LIVE_RERUN.set(alone)
                alone = True
                try:
                    draw(*args, **kwargs)
                finally:
                    _IS_LIVE_RERUN.reset(before)

            st.fragment(part, run_every=every)()

        return show

    return decorate


def redraw() -> None:
    """Rerun the whole page from a fragment. If the fragment is part of a full run, the rerun waits until that
    run is complete; otherwise the page would lose the click that caused it.
    """
    if _IS_LIVE_RERUN.get():
        st.rerun()
    st.session_state[REDRAW] = True


def redraw_if_asked() -> None:
    """Rerun the page, at its end, if a fragment has requested it."""
    if st.session_state.pop(REDRAW, False):
        st.rerun()


@contextmanager
def show_errors() -> Iterator[None]:
    """Show any error of ours raised in the block in its place; the page continues after the block."""
    try:
        yield
    except EngineUnavailable:
        _draw_unavailable(time.monotonic())
    except SignedOutError as error:
        if _forget_person():  # the page was drawn for a person cached up to a second ago
            redraw()
        else:
            show_error(error)
    except TunebenchError as error:
        show_error(error)


@live("2s")
def _draw_unavailable(since: float) -> None:
    """Draw a placeholder for a part the engine did not deliver. It may have failed one request only, without
    a banner that would refresh the page; the retry is delayed, because the same request may fail again.
    """
    if time.monotonic() - since > RETRY_SECONDS and get_engine_error() is None:
        redraw()
    st.caption(":material/cloud_off: This part needs the engine.")


def show_error(error: TunebenchError) -> None:
    """Show an error: what happened, then what to do."""
    fix = f"  \n{escape_markdown(error.fix)}" if error.fix else ""
    st.error(f"{escape_markdown(error.message)}{fix}", icon=":material/error:")


def escape_markdown(text: str) -> str:
    """Escape `text` so that Markdown shows it literally."""
    return _MARKDOWN.sub(r"\\\1", text)


def send_command(
    command: str,
    body: BaseModel | Mapping[str, object],
    done: str = "",
    show: Callable[[TunebenchError], None] = show_error,
) -> JsonObject | None:
    """Send a command. On success clear the caches and show `done`; otherwise `show` the error.

    Only fields that were set are sent. Returns the engine's answer, or None if it refused.
    """
    try:
        if isinstance(body, BaseModel):
            body = body.model_dump(mode="json", exclude_unset=True)
        answer: JsonObject = get_client().command(command, body)
    except TunebenchError as error:
        show(error)
        return None
    st.cache_data.clear()
    if done:
        st.toast(done, icon=":material/check:")
    return answer


def draw_engine_banner() -> None:
    """Draw a banner above every page for as long as the engine is unreachable."""
    away = get_engine_error()
    st.session_state["engine-away"] = away is not None
    if away is not None:
        _draw_offline()


def watch_engine() -> None:
    """In a fragment: rerun the page when the engine becomes unreachable or returns, to update the banner."""
    if (get_engine_error() is not None) != st.session_state.get("engine-away", False):
        redraw()


@live("2s")
def _draw_offline() -> None:
    away = get_engine_error()
    if away is None:
        redraw()
        return
    silent = isinstance(away, EngineSilent)
    what = "The engine does not answer." if silent else "The engine is not running."
    do, _, command = away.fix.partition("command: ")
    with st.container(border=True, key="engine-offline"):
        st.markdown(f":material/cloud_off: **{what}** {escape_markdown(away.message)}")
        again = "The data below may be out of date; the page reconnects by itself."
        st.markdown(f"{again} {escape_markdown(do)}{'command:' if command else ''}")
        if command:
            st.code(command, language=None)


def get_engine_error() -> TunebenchError | None:
    """The reason why the engine does not answer, or None if it does."""
    try:
        _check_health(str(Home().path))
    except TunebenchError as error:
        return error
    return None


@st.cache_data(ttl=1, max_entries=4, show_spinner=False)
def _check_health(home: str) -> None:
    get_client().health()
