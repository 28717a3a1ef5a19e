"""What every answer of the screens tells a browser: what its page may load and run, and who may embed it.

Another server on this machine has an origin of its own and still belongs to the same site, so that a browser
sends our cookies along when a page of that server frames or embeds something of ours. And what people write
(a name, a comment, a row, an answer) is shown as Markdown, in which an image may lie anywhere. Both are
refused here, by the browser, whatever a screen does.

An answer that says more about itself, such as a page of the door, is left as it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send
from streamlit.file_util import get_static_dir

from pages.shared.tabs import REVEAL_SCRIPT

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that know no frame-ancestors
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
MEDIA = "/media/"  # where Streamlit has what is downloaded, some of it as people brought it
_POLICY = "Content-Security-Policy"
_NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
DOOR_POLICY = f"{_NOTHING}; form-action 'self'; style-src 'unsafe-inline'"
FILE_POLICY = f"{_NOTHING}; form-action 'none'; style-src 'unsafe-inline'; sandbox"
# Of the door's own pages. Their address may hold a secret, which is not even told to the next page of ours.
DOOR_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", _POLICY: DOOR_POLICY}


def page_policy() -> str:
    """What a page of Streamlit needs, and no more.

    Scripts: its bundle; `blob:`, from which it imports the scripts of components; two inline ones, by their
    hashes; WebAssembly, in which graphs are laid out. Styles: `st.html` and parts of Streamlit bring theirs
    with them, as elements and attributes, and a few small fonts in them. Images: its own, those that charts
    draw, and those that are written out. `connect-src 'self'` is the live connection too.
    """
    scripts = [*_inline_scripts(Path(get_static_dir(), "index.html").read_text("utf-8")), REVEAL_SCRIPT]
    return "; ".join(
        [
            _NOTHING,
            "form-action 'none'",
            f"script-src 'self' blob: 'wasm-unsafe-eval' {' '.join(map(_hash_source, scripts))}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' blob: data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'none'",
        ]
    )


def _inline_scripts(page: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


def _hash_source(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


class ScreensApp(st.App):
    """Streamlit's app, whose every answer bears these headers. They are set around the whole of it, since
    what it answers to a fault passes by its middleware."""

    def __init__(self, script_path: str | Path, **options: Any) -> None:
        super().__init__(script_path, **options)
        self._page_policy = page_policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_file = scope["path"].startswith(MEDIA)  # whatever it is said to be
            send = with_headers(send, FILE_POLICY if is_file else self._page_policy)
        await super().__call__(scope, receive, send)


def with_headers(send: Send, policy: str) -> Send:
    """Sends an answer with the headers that it lacks; `policy` is that of a page."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            # One without a type may be a 304, whose headers a browser takes over into the page that it has.
            kind = headers.get("content-type", "text/html")
            headers.setdefault(_POLICY, policy if kind.startswith("text/html") else FILE_POLICY)
        await send(message)

    return send_with_headers
