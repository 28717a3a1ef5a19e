"""The engine client that acts for the person behind a browser request. No Streamlit, so that routes can use
it.

The screens authenticate to the engine with their own secret and pass on the person's session. In team mode
the engine refuses requests without a session, so nothing here can act for anybody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from store.core.home import Home
from store.http.access import read_secret
from store.http.client import Client


def build_acting_client(cookies: Mapping[str, str]) -> Client:
    """The client for a request with these cookies."""
    home = Home()
    session = extract_session(cookies)
    return (
        get_screens_client(str(home.path)).acting_for(session)
        if session
        else get_screens_client(str(home.path))
    )


def extract_session(cookies: Mapping[str, str]) -> str:
    """The secret of the person's session, or ""."""
    return cookies.get(get_session_cookie(str(Home().path)), "")


@lru_cache(maxsize=8)
def get_screens_client(home: str) -> Client:
    """The screens' own client, one per home folder and process."""
    return Client(Home(home), secret=Home(home).screens_token)


@lru_cache(maxsize=8)
def get_session_cookie(home: str) -> str:
    """The name of the cookie of a session."""
    return build_session_name(read_secret(Home(home).screens_secret))


def build_session_name(secret: str) -> str:
    """A cookie name that is specific to the home folder: cookies ignore ports, and two folders may be open at
    once.
    """
    return f"tunebench-session-{hashlib.sha256(secret.encode()).hexdigest()[:12]}"
