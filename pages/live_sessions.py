"""How many tabs may be open at once, and how long what a closed one had is kept.

Each open tab is a live connection with a session of Streamlit: four file descriptors (the connection, and an
event loop of its own, of three) and what its page holds. Without a limit the process runs out of descriptors,
and then nothing of it answers anybody any more. So one tab too many is told so before anything is opened for
it, in Streamlit's own dialog, which looks again by itself until there is room.
"""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.session_manager import SessionInfo

LIVE = "/_stcore/stream"
HEALTH = "/_stcore/health"  # for whoever watches the process, which is well
BEFORE_LIVE = (
    "/_stcore/host-config",
    HEALTH,
)  # what a page asks, also below its own path, before it connects
MAX_SESSIONS = 1000  # 200 tabs of an empty overview hold 31 MiB; those of large tables hold more
DESCRIPTORS_EACH = 4
OTHER_DESCRIPTORS = 256  # files, requests under way, the engine's connections, tabs that were just closed


def max_sessions(descriptors: int) -> int:
    """How many sessions a process may have that may have so many descriptors."""
    return max(1, min(MAX_SESSIONS, (descriptors - OTHER_DESCRIPTORS) // DESCRIPTORS_EACH))


class LiveSessions:
    """An ASGI middleware behind the door: `limit` live connections, and an answer for one more."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit, self._open = app, limit, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_live = scope["type"] == "websocket" and scope["path"] == LIVE
        is_full = self._open >= self._limit
        if is_full and is_live:
            await send({"type": "websocket.close", "code": 1013})  # try again later
        elif is_full and scope["type"] == "http" and asks_to_connect(scope["path"]):
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
            f"{self._limit:,} tabs of Tunebench are open, and there is no room for another. Close one that "
            "nobody needs; this one goes on by itself as soon as there is room.",
            503,
            {"Cache-Control": "no-store", "Retry-After": "5"},
        )


def asks_to_connect(path: str) -> bool:
    """Whether a page asks this before it opens its live connection; what it is refused with it shows."""
    return path.endswith(BEFORE_LIVE) and path != HEALTH


def end_kept_sessions() -> None:
    """Have a session whose tab is gone end when its time is over.

    Streamlit keeps it for two minutes, for a connection that comes back, and looks for those whose time is
    over when the next one is kept: without that the last 128 stay, with their descriptors and their uploads.
    """
    save = MemorySessionStorage.save

    def save_for_a_while(self: MemorySessionStorage, session_info: SessionInfo) -> None:
        save(self, session_info)
        asyncio.get_running_loop().call_later(self._cache.ttl + 1, end_expired, self)  # type: ignore[attr-defined]

    MemorySessionStorage.save = save_for_a_while  # type: ignore[method-assign]


def end_expired(storage: MemorySessionStorage) -> None:
    """End the sessions whose time is over."""
    for _, session_info in storage._cache.expire():  # type: ignore[attr-defined]
        session_info.session.shutdown()
