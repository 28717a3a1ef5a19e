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
REMEMBERED = 256  # answers kept for the time when the engine is away
REDRAW = "redraw-page"  # in the session state: a live part asked for that
_IS_LIVE_RERUN = ContextVar("a live part is drawn without the rest of the page", default=False)
_MARKDOWN = re.compile(r"([\\`*_\[\]<>$~#|:])")


def get_client() -> Client:
    """The client of the home folder that the environment names, for whoever this run of a page is for."""
    return build_acting_client(st.context.cookies)


def get_current_person() -> Person:
    """Who this run of a page is for, asked about once a second. While the engine is away, who it was.

    Raises SignedOutError where the session has ended, EngineUnavailable where nobody ever said whose it is.
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
        return OWNER  # whom the door has let in by the secret
    _get_person_memory().put(who, (time.monotonic(), person))
    return person


def _get_session() -> tuple[str, str]:
    return str(Home().path), hash_secret(extract_session(st.context.cookies))


def _forget_person() -> bool:
    """Whether it was known who they are; they are asked for again."""
    try:
        _get_person_memory().take(_get_session())
    except KeyError:
        return False
    return True


def has_right(right: Right) -> bool:
    """Whether the person has a right: what they may not do is not offered, and refused by the engine."""
    return right in RIGHTS[get_current_person().role]


def require_member(what: str) -> bool:
    """Whether the person may work; where not, a sentence says that members can do this."""
    if has_right("work"):
        return True
    role = get_current_person().role
    st.info(
        f"Members can {what}. As a {role} you can look; an admin can give you another role.",
        icon=":material/visibility:",
    )
    return False


def is_machine_owner() -> bool:
    """Whether the person is the owner of the engine's machine, who alone names paths of it."""
    return is_owner(get_current_person())


@st.cache_resource(show_spinner=False)
def _get_person_memory() -> LastAnswers[tuple[float, Person]]:
    return LastAnswers(REMEMBERED)


class LastAnswers(Generic[A]):
    """The last answer to each question, the oldest dropped first; safe for several sessions."""

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
        """The answer; KeyError where the question was never answered."""
        with self._lock:
            return self._answers[question]

    def take(self, question: Hashable) -> A:
        """The answer, which is forgotten by that; KeyError where there is none."""
        with self._lock:
            return self._answers.pop(question)


@st.cache_resource(show_spinner=False)
def _get_memory() -> LastAnswers[Any]:
    return LastAnswers(REMEMBERED)


def fallback_to_last(function: Callable[P, R]) -> Callable[P, R]:
    """A read that answers with what it last knew while the engine is away. Known by its module and qualified
    name: two modules may each have a read of one name, whose answers have nothing in common."""

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
    seconds: float, *, most: int, spinner: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A read whose answer is kept for so many seconds, for all who look, and for as long as the engine is
    away. most: answers to different questions at once. spinner: what is said while a long one is worked out.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        keeping = st.cache_data(ttl=seconds, max_entries=most, show_spinner=spinner or False)
        return fallback_to_last(keeping(function))

    return decorate


def live(every: str | None) -> Callable[[Callable[P, object]], Callable[P, None]]:
    """A part of a page that is drawn anew by itself, `every` so often; None: when it is clicked in alone."""

    def decorate(draw: Callable[P, object]) -> Callable[P, None]:
        @functools.wraps(draw)
        def show(*args: P.args, **kwargs: P.kwargs) -> None:
            alone = False  # the first time it is drawn along with the page

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
    """In a live part: have the whole page drawn anew. Drawn along with the page it goes on, and the page is
    drawn anew once it is through: cut off before, it would forget the click that it is drawn for."""
    if _IS_LIVE_RERUN.get():
        st.rerun()
    st.session_state[REDRAW] = True


def redraw_if_asked() -> None:
    """At the end of a page: draw it anew where a live part of it has asked for that."""
    if st.session_state.pop(REDRAW, False):
        st.rerun()


@contextmanager
def show_errors() -> Iterator[None]:
    """Whatever error of ours the block raises is shown in its place; the page goes on after the block."""
    try:
        yield
    except EngineUnavailable:
        _draw_unavailable(time.monotonic())
    except SignedOutError as error:
        if _forget_person():  # the page was drawn for who it was a second ago
            redraw()
        else:
            show_error(error)
    except TunebenchError as error:
        show_error(error)


@live("2s")
def _draw_unavailable(since: float) -> None:
    """In place of what the engine did not answer: it may have failed one request alone, with no banner to
    bring the page back. Not at once, as the same request may fail again."""
    if time.monotonic() - since > RETRY_SECONDS and get_engine_error() is None:
        redraw()
    st.caption(":material/cloud_off: This part needs the engine.")


def show_error(error: TunebenchError) -> None:
    """The error as a message: what happened, then what to do."""
    fix = f"  \n{escape_markdown(error.fix)}" if error.fix else ""
    st.error(f"{escape_markdown(error.message)}{fix}", icon=":material/error:")


def escape_markdown(text: str) -> str:
    """`text` such that Markdown shows it as it is: data never turns into formatting."""
    return _MARKDOWN.sub(r"\\\1", text)


def send_command(command: str, body: BaseModel | Mapping[str, object], done: str = "") -> JsonObject | None:
    """Send a command; on success the caches are emptied and `done` is said, else the error is shown.

    Of a model the fields that were set are sent. Returns the engine's answer, or None where it refused.
    """
    try:
        if isinstance(body, BaseModel):
            body = body.model_dump(mode="json", exclude_unset=True)
        answer: JsonObject = get_client().command(command, body)
    except TunebenchError as error:
        show_error(error)
        return None
    st.cache_data.clear()
    if done:
        st.toast(done, icon=":material/check:")
    return answer


def draw_engine_banner() -> None:
    """Above every page while no engine answers; it goes by itself when one does."""
    away = get_engine_error()
    st.session_state["engine-away"] = away is not None
    if away is not None:
        _draw_offline()


def watch_engine() -> None:
    """In a live fragment: redraw the whole page when the engine went away or came back, for the banner."""
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
    """Why the engine does not answer, or None where it does."""
    try:
        _check_health(str(Home().path))
    except TunebenchError as error:
        return error
    return None


@st.cache_data(ttl=1, max_entries=4, show_spinner=False)
def _check_health(home: str) -> None:
    get_client().health()
