"""Serve the screens: `python -m pages --port N [--host ADDRESS] [--allow-host NAME …]`.

Works around six faults of Streamlit. Streamlit treats a folder named `pages` beside the app as its older
kind of multi-page app until the app first calls `st.navigation`, so the first visitor of a new server would
see a page without its frame; this module declares the app's kind before any visitor arrives. The other five
are handled by `send_answers_at_once`, `disable_stale_fragments`, `freeze_modules_on_collect`,
`rerun_ended_sessions` and `expire_disconnected_sessions`.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner
from streamlit.web.server.starlette import starlette_server

from pages.people.access_middleware import AccessMiddleware, build_disconnected_response
from pages.people.login import SessionVerifier
from pages.people.single_sign_on import read_provider
from pages.runs.table.runs_table import build_runs_table_routes
from pages.shared.curves.curves import build_curve_routes
from pages.shared.data_routes import Acting
from pages.shared.engine_client import build_acting_client, get_screens_client
from pages.shared.features import load_page_features
from pages.shared.middleware import (
    Redirects,
    ScreensApp,
    SessionLimit,
    compute_max_sessions,
    expire_disconnected_sessions,
)
from pages.shared.session import get_current_person
from store.core.errors import EngineUnavailable, SignedOutError, TunebenchError
from store.core.home import Home
from store.core.processes import acquire_shared_lock, raise_descriptor_limit
from store.core.schemas import JsonObject
from store.http.access import HostNames, is_loopback, normalise_host, read_secret
from store.http.client import Client

APP = Path(__file__).resolve().parent.parent / "app.py"
CORE_ROUTES: Sequence[Callable[[Acting], Iterable[BaseRoute]]] = (build_curve_routes, build_runs_table_routes)
STREAMLIT_OPTIONS = Path(__file__).with_name("streamlit.toml")
GRACE_SECONDS = 2  # for the server to end in order once its parent is gone


def main() -> int:
    """Serve until the process is stopped; the last line on stderr says why it did not."""
    arguments = read_arguments()
    PagesManager.uses_pages_directory = False
    send_answers_at_once()
    disable_stale_fragments()
    freeze_modules_on_collect()
    rerun_ended_sessions()
    expire_disconnected_sessions()
    if arguments.with_parent:
        threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    # By this uvicorn knows whose headers count; without it, it would believe whoever is on this machine.
    os.environ["FORWARDED_ALLOW_IPS"] = ",".join(expand_trusted_proxies(arguments.trusted_proxy))
    try:
        home = Home()
        home.create()
        app = build_authenticated_app(home, arguments)
    except TunebenchError as error:
        print(error, file=sys.stderr)
        return 1
    sys.argv = [str(APP)]  # whose folder Streamlit puts first on the path: not the one of the pages
    options = flatten_options(tomllib.loads(STREAMLIT_OPTIONS.read_text(encoding="utf-8")))
    with acquire_shared_lock(
        home.screens_lock
    ):  # by which they are told from those that a copied folder has on record
        app.run(config=options | {"server.address": arguments.host, "server.port": arguments.port})
    return 0


def build_authenticated_app(home: Home, arguments: argparse.Namespace) -> ScreensApp:
    """The screens of a home folder. Raises TunebenchError for a name or a provider that can't be."""
    provider = read_provider(home)
    door = Middleware(
        AccessMiddleware,
        secret=read_secret(home.screens_secret),
        names=HostNames(arguments.allow_host),
        visitors=SessionVerifier(get_screens_client(str(home.path))),
        provider=provider,
        open_to_others=not is_loopback(arguments.host),
    )
    limit = compute_max_sessions(raise_descriptor_limit())
    return build_app(door, limit, provider.secrets() if provider else None)


def build_app(door: Middleware, limit: int, secrets: JsonObject | None = None) -> ScreensApp:
    """All that is served. `limit`: tabs that may be open at once; `secrets`: what Streamlit's routes of a
    provider are given."""

    def acting(request: Request) -> Client:
        return build_acting_client(request.cookies)

    of_features = [feature.build_routes for feature in load_page_features().values()]
    builders = [*CORE_ROUTES, *(build for build in of_features if build)]
    return ScreensApp(
        APP,
        routes=[route for build in builders for route in build(acting)],
        middleware=[door, Middleware(SessionLimit, limit=limit), Middleware(Redirects)],
        exception_handlers={ClientDisconnect: build_disconnected_response},
        secrets=secrets,
    )


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pages", description="The Tunebench screens.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--allow-host", action="append", default=[], help="a name beside those of loopback")
    parser.add_argument("--host", default="127.0.0.1", help="the interface to listen on")
    parser.add_argument(
        "--trusted-proxy", action="append", default=[], help="whose X-Forwarded headers count"
    )
    parser.add_argument("--with-parent", action="store_true", help="end once standard input does")
    return parser.parse_args()


def expand_trusted_proxies(proxies: list[str]) -> list[str]:
    """The addresses of proxies, as a socket may tell them: one for both kinds tells IPv4 as IPv6."""
    plain = [normalise_host(proxy) for proxy in proxies]
    return plain + [f"::ffff:{address}" for address in plain if ":" not in address]


def flatten_options(table: JsonObject, prefix: str = "") -> JsonObject:
    """Streamlit's options in a table of `streamlit.toml`, by their dotted names.

    They are passed on, since Streamlit looks for a hidden folder beside the app, and installed the app lies
    among all other packages.
    """
    options: JsonObject = {}
    for name, value in table.items():
        if isinstance(value, dict):
            options |= flatten_options(value, f"{prefix}{name}.")
        else:
            options[prefix + name] = value
    return options


def end_with_parent() -> None:
    """End this process when standard input does: its other end is held by the parent, whatever kills that."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def disable_stale_fragments() -> None:
    """Have no run for parts of a page that was left.

    The browser asks for the live parts of its page by a timer, and learns that `st.switch_page` has left that
    page a moment later. What it asked in between would be answered as the old page, without its other
    elements: the browser takes that for a change of page, empties the new one, finds no place for the next
    live part, and stays white.
    """
    run_script = ScriptRunner._run_script

    def run_what_is_shown(self: ScriptRunner, asked: RerunData) -> None:
        current_page = self._pages_manager.current_page_script_hash
        if asked.fragment_id_queue and current_page and asked.page_script_hash != current_page:
            return
        run_script(self, asked)

    ScriptRunner._run_script = run_what_is_shown  # type: ignore[method-assign, assignment]


def rerun_ended_sessions() -> None:
    """Run the whole page in place of a part where the session of who asks has ended.

    A part is drawn without the page around it, which says that they are signed out; and what it shows may
    come from what was read for others a moment before.
    """
    run_script = ScriptRunner._run_script

    def run_for_somebody(self: ScriptRunner, asked: RerunData) -> None:
        if asked.fragment_id_queue and is_session_ended():
            asked = replace(asked, fragment_id_queue=[], is_fragment_scoped_rerun=False, is_auto_rerun=False)
        run_script(self, asked)

    ScriptRunner._run_script = run_for_somebody  # type: ignore[method-assign, assignment]


def is_session_ended() -> bool:
    """Whether the session of who asks has ended."""
    try:
        get_current_person()
    except SignedOutError:
        return True
    except EngineUnavailable:
        return False
    return False


def send_answers_at_once() -> None:
    """Turn off Nagle's algorithm on the connections of the server.

    asyncio does so for sockets that name TCP as their protocol, which Streamlit's does not. The body of an
    answer then waits behind its head for the browser's delayed acknowledgement: 40 ms for any that fits into
    one segment. Connections inherit the option of the socket that listens.
    """
    bind_socket = starlette_server._bind_socket

    def bind_without_delay(address: str, port: int, backlog: int) -> socket.socket:
        listener = bind_socket(address, port, backlog)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    starlette_server._bind_socket = bind_without_delay


def freeze_modules_on_collect() -> None:
    """Have the collection of garbage that ends every run of a page or a part pass over what is imported.

    Streamlit does it with the interpreter held: through all modules it takes a tenth of a second, in which
    nothing reaches a browser and no click is answered. So all that lives after a run that imported something
    is left out from then on. A page imports its modules at its first visit: it happens a few times.
    """
    run_script = ScriptRunner._run_script
    modules = 0

    def run_and_leave_out(self: ScriptRunner, asked: RerunData) -> None:
        nonlocal modules
        run_script(self, asked)
        if len(sys.modules) != modules:
            modules = len(sys.modules)
            gc.freeze()

    ScriptRunner._run_script = run_and_leave_out  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    sys.exit(main())
