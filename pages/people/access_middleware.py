"""Access control of the screens: an ASGI middleware in front of pages, live connection, uploads, media and
static files.

A request is accepted if its Host is one of ours and it brings a valid cookie. In single-user mode the printed
address carries a secret that is exchanged for the cookie; the secret is then removed from the address bar.
That response is a page that navigates by itself rather than a redirect, because a browser does not send a
SameSite=Strict cookie along a redirect that started on another site, in a file or in a terminal.

In team mode the secret opens nothing and `pages.people.login` requires a session. The engine decides which
mode applies; until it has answered, nobody gets in.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pages.people import login_forms
from pages.people.login import LoginRoutes, SessionVerifier
from pages.people.single_sign_on import Provider
from pages.shared.engine_client import build_session_name
from pages.shared.middleware import LOGIN_HEADERS
from store.core.errors import EngineUnavailable
from store.http.access import PARAMETER, HostNames

COOKIE_SECONDS = 365 * 24 * 3600


class AccessMiddleware:
    """Passes requests with a valid Host and cookie to the app, and answers all others itself.

    `open_to_others`: served beyond loopback, where the secret is not sufficient whatever the engine says.
    """

    def __init__(
        self,
        app: ASGIApp,
        secret: str,
        names: HostNames,
        visitors: SessionVerifier,
        provider: Provider | None = None,
        open_to_others: bool = False,
    ) -> None:
        self._app, self._secret, self._names = app, secret.encode(), names
        self._visitors, self._open_to_others = visitors, open_to_others
        self._entry = LoginRoutes(app, visitors, build_session_name(secret), provider)
        self.cookie = build_cookie_name(secret)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("scheme") == "https":
            send = wrap_https_send(send)
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if problem := self._names.problem(scope):
            await _refuse(build_refusal(scope, problem), scope, receive, send)
            return
        try:
            team = await self._visitors.team()
        except EngineUnavailable as error:
            away = HTMLResponse(login_forms.render_engine_unavailable(str(error)), 503, LOGIN_HEADERS)
            await _refuse(away, scope, receive, send)
            return
        if team:
            await self._entry(scope, receive, send)
        elif self._open_to_others:
            await _refuse(
                HTMLResponse(login_forms.render_sign_in_disabled(), 403, LOGIN_HEADERS), scope, receive, send
            )
        elif self._brings_secret(scope):
            await self._enter(scope)(scope, receive, send)
        elif self._brings_cookie(scope):
            await self._app(scope, receive, send)
        else:
            await _refuse(build_refusal(scope), scope, receive, send)

    def _brings_secret(self, scope: Scope) -> bool:
        return (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and any(
                key == PARAMETER and self._is_secret(value.encode()) for key, value in _parse_query(scope)
            )
        )

    def _brings_cookie(self, scope: Scope) -> bool:
        """Whether any cookie of the name is valid; another server on this host may have set one of that
        name too.
        """
        pairs = (
            pair.strip().partition(b"=")
            for key, value in scope["headers"]
            if key == b"cookie"
            for pair in value.split(b";")
        )
        return any(name == self.cookie.encode() and self._is_secret(value) for name, _, value in pairs)

    def _is_secret(self, text: bytes) -> bool:
        return hmac.compare_digest(text, self._secret)

    def _enter(self, scope: Scope) -> Response:
        rest = urlencode([(key, value) for key, value in _parse_query(scope) if key != PARAMETER])
        there = quote("/" + scope["path"].lstrip("/\\")) + (f"?{rest}" if rest else "")
        answer = HTMLResponse(login_forms.render_redirect(there), headers=LOGIN_HEADERS)
        answer.set_cookie(
            self.cookie, self._secret.decode(), COOKIE_SECONDS, httponly=True, samesite="strict"
        )
        return answer


def wrap_https_send(send: Send) -> Send:
    """Wrap `send` for HTTPS requests: all cookies, also the app's own, are marked Secure."""

    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, value + b"; Secure" if _is_bare_cookie(name, value) else value)
                for name, value in message["headers"]
            ]
        await send(message)

    return send_secured


def _is_bare_cookie(name: bytes, value: bytes) -> bool:
    attributes = {part.strip().lower() for part in value.split(b";")}
    return name.lower() == b"set-cookie" and b"secure" not in attributes


def build_cookie_name(secret: str) -> str:
    """Build a cookie name for a home folder: cookies ignore ports, and two folders may be open at once."""
    return f"tunebench-{hashlib.sha256(secret.encode()).hexdigest()[:12]}"


def build_refusal(scope: Scope, problem: str = "") -> Response:
    """Build the 403 response to a refused request: a page for browsers, plain text for others."""
    headers = dict(scope["headers"])
    if b"text/html" not in headers.get(b"accept", b""):
        return PlainTextResponse(problem or "The secret is missing or wrong.", 403, LOGIN_HEADERS)
    if problem:
        page = login_forms.render_wrong_host(problem)
    elif headers.get(b"sec-fetch-site") == b"cross-site":
        page = login_forms.render_cross_site()
    else:
        page = login_forms.render_missing_secret()
    return HTMLResponse(page, 403, LOGIN_HEADERS)


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before acceptance this becomes 403
    else:
        await answer(scope, receive, send)


async def build_disconnected_response(request: Request, error: Exception) -> Response:
    """Build the response after a client has disconnected; nobody reads it, and it is not an error of ours."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=499)


def _parse_query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
