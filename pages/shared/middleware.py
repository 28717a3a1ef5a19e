"""ASGI middleware around Streamlit's server: security headers, redirects of old addresses, and a limit on
open tabs.

Invariant: every response has its headers, error responses included, and a connection above the limit is
refused before anything is allocated for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.file_util import get_static_dir
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.session_manager import SessionInfo

from pages.shared.layout import REVEAL_SCRIPT

# Security headers: what a page may load and run, and who may embed it.
#
# A server on another port of this machine is another origin but the same site, so a browser sends our cookies
# along when one of its pages frames or embeds ours. User text (a name, comment, row or answer) is shown as
# Markdown, which may contain images. The headers make the browser refuse both, whatever a screen does.
#
# Headers that a response already sets, such as those of the access control pages, are kept.

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers without support for frame-ancestors
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
MEDIA_PATH = "/media/"  # Streamlit's downloads, some of which are unmodified uploads
_POLICY = "Content-Security-Policy"
_DENY_ALL_POLICY = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
LOGIN_POLICY = f"{_DENY_ALL_POLICY}; form-action 'self'; style-src 'unsafe-inline'"
FILE_POLICY = f"{_DENY_ALL_POLICY}; form-action 'none'; style-src 'unsafe-inline'; sandbox"
# For the access control pages. Their address may contain a secret, which must not be sent even to our own
# pages as referrer.
LOGIN_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", _POLICY: LOGIN_POLICY}


def build_page_policy() -> str:
    """The Content-Security-Policy of a Streamlit page, as narrow as possible.

    Scripts: its bundle; `blob:`, from which it imports component scripts; two inline scripts, by hash;
    WebAssembly, for graph layout. Styles: `st.html` and parts of Streamlit use inline elements and
    attributes, and embed a few small fonts. Images: its own, those drawn by charts, and data URLs.
    `connect-src 'self'` includes the live connection.
    """
    page = Path(get_static_dir(), "index.html").read_text("utf-8")
    scripts = [*re.findall(r"<script>(.*?)</script>", page, re.DOTALL), REVEAL_SCRIPT]
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return "; ".join(
        [
            _DENY_ALL_POLICY,
            "form-action 'none'",
            f"script-src 'self' blob: 'wasm-unsafe-eval' {hashes}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' blob: data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'none'",
        ]
    )


class ScreensApp(st.App):
    """Streamlit's app with security headers on every response. They are set around the whole app, because its
    error responses bypass its own middleware.
    """

    def __init__(self, script_path: str | Path, **options: Any) -> None:
        super().__init__(script_path, **options)
        self._page_policy = build_page_policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_file = scope["path"].startswith(MEDIA_PATH)  # whatever its declared content type
            send = wrap_send_with_headers(send, FILE_POLICY if is_file else self._page_policy)
        await super().__call__(scope, receive, send)


def wrap_send_with_headers(send: Send, policy: str) -> Send:
    """A `send` that adds missing headers to a response; `policy` is the page policy."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            # A response without a content type may be a 304, whose headers the browser applies to the cached
            # page.
            kind = headers.get("content-type", "text/html")
            headers.setdefault(_POLICY, policy if kind.startswith("text/html") else FILE_POLICY)
        await send(message)

    return send_with_headers


# Addresses of pages that have become tabs of other pages redirect to the tab and keep their query.
#
# This is middleware because a page that called `st.switch_page` would stay in the browser's history, and Back
# would lead to it and on to the new page again.


class RedirectTarget(NamedTuple):
    """The present page and tab, and renamed parameters."""

    page: str
    tab: str
    renamed: dict[str, str]


REDIRECT_TARGETS = {
    "/mix": RedirectTarget("/run", "between", {}),
    "/evidence": RedirectTarget("/compare", "cost", {}),
    "/transfer": RedirectTarget("/compare", "transfer", {"runs": "matrix-runs"}),
}


class Redirects:
    """Redirects old addresses to the present ones; other requests pass to the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = REDIRECT_TARGETS.get(scope["path"].rstrip("/")) if scope["type"] == "http" else None
        if place is None or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        kept = [(place.renamed.get(name, name), value) for name, value in asked if name != "tab"]
        address = f"{place.page}?{urlencode([('tab', place.tab), *kept])}"
        there = RedirectResponse(address, 307, {"Cache-Control": "no-store"})
        await there(scope, receive, send)


# The limit on open tabs, and the expiry of sessions of closed tabs.
#
# Each open tab is a live connection with a Streamlit session: four file descriptors (the connection, and
# three of an event loop of its own) and the memory of its page. Without a limit the process would run out of
# descriptors and stop answering altogether. A tab above the limit is therefore refused before anything is
# opened for it, in Streamlit's own dialog, which retries until there is room.

STREAM_PATH = "/_stcore/stream"
HEALTH_PATH = "/_stcore/health"  # health check of the process, which stays healthy at the limit
PRE_CONNECT_PATHS = (
    "/_stcore/host-config",
    HEALTH_PATH,
)  # requested by a page, also below its own path, before it connects
MAX_SESSIONS = 1000  # 200 tabs of an empty overview use 31 MiB; tabs with large tables use more
DESCRIPTORS_PER_SESSION = 4
RESERVED_DESCRIPTORS = 256  # files, pending requests, connections to the engine, recently closed tabs


def compute_max_sessions(descriptors: int) -> int:
    """The number of sessions that a process may have, given its limit of file descriptors."""
    return max(1, min(MAX_SESSIONS, (descriptors - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_SESSION))


class SessionLimit:
    """ASGI middleware behind access control that accepts at most `limit` live connections."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit, self._open = app, limit, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_live = scope["type"] == "websocket" and scope["path"] == STREAM_PATH
        is_full = self._open >= self._limit
        if is_full and is_live:
            await send({"type": "websocket.close", "code": 1013})  # try again later
        elif is_full and scope["type"] == "http" and is_connection_request(scope["path"]):
            await self._refusal()(scope, receive, send)
        elif is_live:
            self._open += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._open -= 1
        else:
            await self._app(scope, receive, send)

    def _refusal(self) -> JSONResponse:
        return JSONResponse(
            f"{self._limit:,} tabs of Tunebench are open, which is the maximum. Close one that is not"
            " needed; this one then continues automatically.",
            503,
            {"Cache-Control": "no-store", "Retry-After": "5"},
        )


def is_connection_request(path: str) -> bool:
    """Whether a page sends this request before it opens its live connection; a refusal of it is shown to the
    user.
    """
    return path.endswith(PRE_CONNECT_PATHS) and path != HEALTH_PATH


def expire_disconnected_sessions() -> None:
    """End the sessions of closed tabs when their time is over.

    Streamlit keeps a session for two minutes in case the connection returns, and looks for expired ones only
    when another is kept. Without this the last 128 stay, with their descriptors and uploads.
    """
    save = MemorySessionStorage.save

    def save_for_a_while(self: MemorySessionStorage, session_info: SessionInfo) -> None:
        save(self, session_info)
        asyncio.get_running_loop().call_later(self._cache.ttl + 1, end_expired_sessions, self)  # type: ignore[attr-defined]

    MemorySessionStorage.save = save_for_a_while  # type: ignore[method-assign]


def end_expired_sessions(storage: MemorySessionStorage) -> None:
    """End expired sessions."""
    for _, session_info in storage._cache.expire():  # type: ignore[attr-defined]
        session_info.session.shutdown()
