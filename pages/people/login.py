"""Sign-in, as ASGI behind the Host check: a request without a session gets the form, others pass to the app.

Invariant: without a session known to the engine nothing of the app is reachable, except the two routes of
single sign-on. While the engine is unreachable its last answer about a session remains valid for a while, and
nobody can be signed out.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pages.people import login_forms
from pages.people.single_sign_on import (
    CALLBACK,
    LOGIN,
    LOGOUT,
    Provider,
    extract_verified_email,
    is_streamlit_cookie,
)
from pages.shared.middleware import LOGIN_HEADERS
from store.core.documents import parse_document
from store.core.errors import EngineUnavailable, SignedOutError, StateError, TunebenchError
from store.core.schemas import CreatedSession, Person
from store.http.access import PARAMETER, hash_secret, normalise_host
from store.http.client import Client

CACHE_SECONDS = 2.0
ENGINE_AWAY_SECONDS = 900.0  # how long the last answer is valid while the engine is unreachable
MAX_CACHED_SESSIONS = 10_000


class SessionVerifier:
    """Verifies sessions by asking the engine, authenticated with the secret of the screens.

    Answers are cached for a moment, because a page load makes about fifty requests. While the engine is
    unreachable, the last answer remains valid for a while; nobody can be signed out meanwhile, because that
    is done by the engine.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._team: tuple[float, bool] | None = None  # time of the query, and its result
        self._people: OrderedDict[str, tuple[float, Person]] = OrderedDict()

    async def ask(self, name: str, body: dict[str, object]) -> Any:
        """Send an access control request and return its document."""
        return await run_sync(self._client.door, name, body)

    async def team(self) -> bool:
        """Whether sign-in is required. Raises EngineUnavailable if no engine has ever answered."""
        if self._team is None or self._clock() - self._team[0] > CACHE_SECONDS:
            try:
                self._team = self._clock(), bool((await self.ask("state", {}))["team"])
            except EngineUnavailable:
                if self._team is None:
                    raise
        return self._team[1]

    async def person(self, session: str, *, anew: bool = False) -> Person | None:
        """Return the person of the session, queried `anew` or from the cache; None if it is invalid.

        Raises EngineUnavailable if the engine is unreachable and the cache has no valid answer.
        """
        key, now = hash_secret(session), self._clock()
        asked_at, person = self._people.get(key, (float("-inf"), None))
        if person is not None and not anew and now - asked_at <= CACHE_SECONDS:
            return person
        try:
            person = parse_document(Person, await self.ask("who", {"session": session[:200]}))
        except (SignedOutError, StateError):
            self._people.pop(key, None)
            return None
        except EngineUnavailable:
            if person is None or now - asked_at > ENGINE_AWAY_SECONDS:
                raise
            return person
        self._people[key] = now, person
        self._people.move_to_end(key)
        while len(self._people) > MAX_CACHED_SESSIONS:
            self._people.popitem(last=False)
        return person

    def forget(self, session: str) -> None:
        """Remove an ended session from the cache."""
        self._people.pop(hash_secret(session), None)


SESSION_SECONDS = 30 * 24 * 3600  # the engine ends unused sessions earlier
DEVICE_SECONDS = 365 * 24 * 3600  # how long the engine recognizes a browser after a sign-in
MAX_FORM_BYTES = 16 * 1024
NEXT_COOKIE_SECONDS = 600  # time to return from the provider
HEADERS = LOGIN_HEADERS | {"Referrer-Policy": "same-origin"}  # with no-referrer a form sends no Origin
Answer = Callable[[Request], Awaitable[Response]]


class LoginRoutes:
    """ASGI middleware that serves the sign-in routes and requires a session for all others.

    `cookie`: the name of the session cookie. Forms are accepted only from our own pages: a POST must have an
    Origin, which has been checked before.
    """

    def __init__(
        self, app: ASGIApp, visitors: SessionVerifier, cookie: str, provider: Provider | None
    ) -> None:
        self._app, self._visitors, self._cookie, self._provider = app, visitors, cookie, provider
        self._next = cookie.replace("session", "next")
        self._came_by_provider = cookie.replace("session", "provider")
        self._browser_cookie = cookie.replace("session", "known")
        self._answers: dict[tuple[str, str], Answer] = {
            ("GET", "/sign-in"): self._show_sign_in,
            ("POST", "/sign-in"): self._sign_in,
            ("GET", "/invitation"): self._show_invitation,
            ("POST", "/invitation"): self._accept,
            ("GET", "/sign-out"): self._show_sign_out,
            ("POST", "/sign-out"): self._sign_out,
            ("GET", "/sign-in/provider"): self._to_provider,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except EngineUnavailable as error:
            answer = HTMLResponse(login_forms.render_engine_unavailable(str(error)), 503, HEADERS)
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before acceptance this becomes 403
        else:
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the response to a sign-in route or a refused request; None if the request passes to the
        app.
        """
        if scope["type"] == "http":
            request = Request(scope, receive)
            if answer := self._answers.get((request.method, scope["path"].rstrip("/"))):
                if request.method == "POST" and "origin" not in request.headers:
                    return PlainTextResponse("The request has no origin.", 403, HEADERS)
                return await answer(request)
            if self._provider and scope["path"] == LOGIN:
                return None
            if self._provider and scope["path"] == CALLBACK:
                return await self._come_back(request, self._provider)
        if await self._person(scope):
            return None
        return self._turn_away(scope)

    async def _person(self, scope: Scope) -> Person | None:
        """Return the signed-in person, or None.

        All cookies of the name are tried, because another server on this host may have set one too.
        """
        headers = Headers(scope=scope)
        anew = scope["type"] == "websocket" or "text/html" in headers.get("accept", "")  # not for every file
        for session in self._sessions(scope):
            if person := await self._visitors.person(session, anew=anew):
                return person
        return None

    def _sessions(self, scope: Scope) -> list[str]:
        pairs = (
            pair.strip().partition("=")
            for value in Headers(scope=scope).getlist("cookie")
            for pair in value.split(";")
        )
        return [value for name, _, value in pairs if name == self._cookie and value][:3]

    def _turn_away(self, scope: Scope) -> Response:
        headers = Headers(scope=scope)
        if scope["type"] == "websocket" or "text/html" not in headers.get("accept", ""):
            return PlainTextResponse("You are not signed in.", 401, HEADERS)
        there = sanitize_local_address(scope["path"] + "?" + scope["query_string"].decode("latin-1"))
        if headers.get("sec-fetch-site") == "cross-site":  # a Strict cookie is only sent from our own pages
            return HTMLResponse(login_forms.render_redirect(there), headers=HEADERS)
        return RedirectResponse("/sign-in?" + urlencode({"next": there}), 303, HEADERS)

    async def _show_sign_in(self, request: Request) -> Response:
        return self._sign_in_form(sanitize_local_address(request.query_params.get("next", "/")))

    def _sign_in_form(
        self, there: str, email: str = "", problem: str = "", status: int = 200
    ) -> HTMLResponse:
        name = self._provider.name if self._provider else ""
        return HTMLResponse(login_forms.render_sign_in(there, email, problem, name), status, HEADERS)

    async def _sign_in(self, request: Request) -> Response:
        form = await read_form(request)
        there, email = sanitize_local_address(form.get("next", "/")), form.get("email", "")
        browser_cookie = request.cookies.get(self._browser_cookie, "")[:200]
        body = {
            "email": email,
            "password": form.get("password", ""),
            "browser_cookie": browser_cookie,
        } | describe_browser(request)
        try:
            signed_in = await self._visitors.ask("sign_in", body)
        except EngineUnavailable:
            raise
        except TunebenchError as error:
            return _add_retry_after(self._sign_in_form(there, email, str(error), error.status), error)
        return self._let_in(request, signed_in, RedirectResponse(there, 303, HEADERS))

    async def _show_invitation(self, request: Request) -> Response:
        return await self._invitation_form(request.query_params.get("code", ""), {}, None)

    async def _invitation_form(
        self, code: str, form: dict[str, str], problem: TunebenchError | None
    ) -> Response:
        try:
            offer = await self._visitors.ask("invitation", {"secret": code[:200]})
        except EngineUnavailable:
            raise
        except TunebenchError as error:
            page = login_forms.render_refusal("This link is not valid", str(error))
            return HTMLResponse(page, error.status, HEADERS)
        page = login_forms.render_invitation(
            code,
            offer,
            form.get("email", ""),
            form.get("name", ""),
            str(problem or ""),
            self._provider.name if self._provider else "",
        )
        answer = HTMLResponse(page, problem.status if problem else 200, HEADERS)
        return _add_retry_after(answer, problem) if problem else answer

    async def _accept(self, request: Request) -> Response:
        form = await read_form(request)
        code = form.get("code", "")
        body: dict[str, object] = {"secret": code, "password": form.get("password", "")}
        body |= {field: form[field] for field in ("email", "name") if form.get(field)} | describe_browser(
            request
        )
        try:
            signed_in = await self._visitors.ask("accept", body)
        except EngineUnavailable:
            raise
        except TunebenchError as error:
            return await self._invitation_form(code, form, error)
        if ended := signed_in["ended_tokens"]:
            page = login_forms.render_password_set(ended)
            return self._let_in(request, signed_in, HTMLResponse(page, headers=HEADERS))
        return self._let_in(request, signed_in, RedirectResponse("/", 303, HEADERS))

    async def _show_sign_out(self, request: Request) -> Response:
        person = await self._person(request.scope)
        if person is None:
            return self._turn_away(request.scope)
        provider = self._provider_of(request)
        page = login_forms.render_sign_out(person.name, provider.name if provider else "")
        return HTMLResponse(page, headers=HEADERS)

    async def _sign_out(self, request: Request) -> Response:
        sessions = self._sessions(request.scope)
        for session in sessions:
            await self._visitors.ask("sign_out", {"session": session[:200]})
            self._visitors.forget(session)
        if provider := self._provider_of(request):
            answer = await self._to_sign_out_at(provider, request, sessions)
        else:
            answer = RedirectResponse("/sign-in", 303, HEADERS)
        for cookie in (self._cookie, self._came_by_provider):
            answer.delete_cookie(cookie, httponly=True, samesite="strict")
        return answer

    def _let_in(
        self, request: Request, signed_in: CreatedSession, answer: Response, *, by_provider: bool = False
    ) -> Response:
        """Set the session cookie and two others.

        One records whether the person came by the provider, which outlives a restart; the other that the
        browser is known, which outlives the session.
        """
        for cookie, value, seconds in (
            (self._cookie, signed_in["session"], SESSION_SECONDS),
            (self._browser_cookie, signed_in["browser_cookie"], DEVICE_SECONDS),
        ):
            answer.set_cookie(cookie, value, seconds, httponly=True, samesite="strict")
        if by_provider:
            answer.set_cookie(self._came_by_provider, "1", SESSION_SECONDS, httponly=True, samesite="strict")
        elif self._came_by_provider in request.cookies:
            answer.delete_cookie(self._came_by_provider, httponly=True, samesite="strict")
        return answer

    async def _to_provider(self, request: Request) -> Response:
        if self._provider is None:
            return RedirectResponse("/sign-in", 303, HEADERS)
        there = sanitize_local_address(request.query_params.get("next", "/"))
        if not self._provider.is_at(request.headers.get("host", "")):  # it only returns to one address
            to = f"{self._provider.address}/sign-in/provider?{urlencode({'next': there})}"
            return RedirectResponse(to, 303, HEADERS)
        answer = RedirectResponse(self._provider.login(), 303, HEADERS)
        answer.set_cookie(self._next, quote(there), NEXT_COOKIE_SECONDS, httponly=True, samesite="lax")
        return answer

    async def _come_back(self, request: Request, provider: Provider) -> Response:
        """Complete the protocol with the app's own route, and replace the cookie that it sets by a
        session.
        """
        if not request.query_params:  # return from the provider's sign-out
            return RedirectResponse("/sign-in", 303, HEADERS)
        cookies = (await self._headers_of_app(request.scope, request.receive)).getlist("set-cookie")
        claims = provider.claims(cookies)
        email = extract_verified_email(claims)
        if not email:
            why = f"{provider.name} has not verified your e-mail address." if claims.get("email") else ""
            return self._refused_by_provider(why or f"{provider.name} did not return your identity.", 403)
        body = {"email": email, "name": str(claims.get("name") or "")[:80]} | describe_browser(request)
        try:
            signed_in = await self._visitors.ask("verified_sign_in", body)
        except EngineUnavailable:
            raise
        except TunebenchError as error:
            return self._refused_by_provider(str(error), error.status)
        there = sanitize_local_address(unquote(request.cookies.get(self._next, "/")))
        # not a redirect, because the cookie is Strict and this navigation started at the provider
        answer = HTMLResponse(login_forms.render_redirect(there), headers=HEADERS)
        answer.delete_cookie(self._next, httponly=True, samesite="lax")
        for line in cookies:
            if not is_streamlit_cookie(line):
                answer.headers.append("Set-Cookie", line)
        provider.remember(signed_in["session"], cookies)
        return self._let_in(request, signed_in, answer, by_provider=True)

    def _provider_of(self, request: Request) -> Provider | None:
        """Return the provider if this browser signed in with it, because it would sign in again without
        asking.
        """
        return self._provider if self._came_by_provider in request.cookies else None

    async def _to_sign_out_at(self, provider: Provider, request: Request, sessions: list[str]) -> Response:
        """Ask the app's own route where the provider ends its session, and return a page that navigates
        there.

        It is not a redirect, because the policy of our forms forbids redirects to other sites.
        """
        leaving: Scope = {
            **request.scope,
            **{"method": "GET", "path": LOGOUT, "raw_path": LOGOUT.encode(), "query_string": b""},
            "headers": [(b"cookie", provider.cookies_of(sessions).encode("latin-1"))],
        }
        there = (await self._headers_of_app(leaving, request.receive)).get("location", "")
        if urlsplit(there).scheme in ("http", "https"):
            return HTMLResponse(login_forms.render_redirect(there), headers=HEADERS)
        return HTMLResponse(login_forms.render_signed_out_locally(provider.name), headers=HEADERS)

    async def _headers_of_app(self, scope: Scope, receive: Receive) -> Headers:
        """Return the response headers of a route of the app, without sending them to the browser."""
        raw: list[tuple[bytes, bytes]] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw.extend(message["headers"])

        await self._app(scope, receive, keep)
        return Headers(raw=raw)

    def _refused_by_provider(self, problem: str, status: int) -> Response:
        return HTMLResponse(login_forms.render_refusal("You are not signed in", problem), status, HEADERS)


async def read_form(request: Request) -> dict[str, str]:
    """Read the fields of a form; empty if it exceeds the maximum size of our forms."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20))


def describe_browser(request: Request) -> dict[str, object]:
    """Describe the origin of a request, for the list of sessions and for counting attempts."""
    address = normalise_host(request.client.host) if request.client else ""
    agent = request.headers.get("user-agent", "")
    return {
        "address": address[:100],
        "agent": "".join(character for character in agent if character.isprintable())[:300],
    }


def sanitize_local_address(address: str) -> str:
    """Return the path and query of an address on this server, without its host.

    `/` if it is invalid or one of the forms.
    """
    try:
        parts = urlsplit(address.replace("\\", "/"))
    except ValueError:
        return "/"
    path = "/" + parts.path.lstrip("/")
    if path.startswith(("/sign-in", "/sign-out", "/invitation")):
        return "/"
    query = urlencode(
        [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != PARAMETER]
    )
    return quote(path, safe="/%") + (f"?{query}" if query else "")


def _add_retry_after(answer: Response, error: TunebenchError) -> Response:
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer
