"""Single sign-on by OpenID Connect, through the routes of Streamlit's `st.login`.

Configured in the home folder (`oidc.toml`, mode 0600) or by environment variables; see docs/team.md.
Streamlit's routes implement the protocol and end with a signed but readable cookie that is valid for 30 days.
That cookie never reaches a browser: the middleware removes it from the response and exchanges it, once, for a
session of ours, which the engine checks on each request and which can be revoked. Of the provider's tokens
only the ID token is kept, in memory, because sign-out needs it to end the provider's session.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field
from streamlit.auth_util import encode_provider_token, get_cookie_with_chunks
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value, decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import TOKENS_COOKIE_NAME, USER_COOKIE_NAME

from pages.shared.session import LastAnswers
from store.core.config import Config, Line
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.schemas import JsonObject
from store.http.access import create_secret, hash_secret

LOGIN, CALLBACK, LOGOUT = "/auth/login", "/oauth2callback", "/auth/logout"
KEY = "default"  # Streamlit's name for a single provider
MAX_REMEMBERED = 10_000  # maximum number of ID tokens kept
_VARIABLES = {
    name: f"TUNEBENCH_OIDC_{name.upper()}"
    for name in ("client_id", "client_secret", "discovery_url", "address", "name")
}


class ProviderConfig(Config):
    """Contents of oidc.toml."""

    client_id: str = Field(min_length=1)
    client_secret: str = Field(min_length=1)
    discovery_url: str = Field(min_length=1)  # …/.well-known/openid-configuration
    address: str = Field(min_length=1)  # public address of these screens
    name: Line = Field("your organization", min_length=1, max_length=60)


class Provider:
    """The provider of one configuration, with a signing key that lasts as long as this process."""

    def __init__(self, config: ProviderConfig) -> None:
        self.name = config.name
        self.address = config.address.rstrip("/")
        self._config, self._key = config, create_secret()
        self._id_tokens: LastAnswers[str] = LastAnswers(MAX_REMEMBERED)

    def secrets(self) -> JsonObject:
        """Secrets for Streamlit's routes."""
        return {
            "auth": {
                "redirect_uri": self.address + CALLBACK,
                "cookie_secret": self._key,
                "client_id": self._config.client_id,
                "client_secret": self._config.client_secret,
                "server_metadata_url": self._config.discovery_url,
            }
        }

    def is_at(self, host: str) -> bool:
        """Whether a request uses the address to which the provider returns."""
        return secrets.compare_digest(host.lower().encode(), urlsplit(self.address).netloc.lower().encode())

    def login(self) -> str:
        """The address that leads to the provider; valid for two minutes."""
        return f"{LOGIN}?provider={encode_provider_token(KEY)}"

    def claims(self, set_cookies: list[str]) -> JsonObject:
        """The identity in the cookies set by Streamlit's callback; empty if there is none."""
        return self._signed(set_cookies, USER_COOKIE_NAME)

    def remember(self, session: str, set_cookies: list[str]) -> None:
        """Store the provider's ID token with which a session of ours began."""
        if token := self._signed(set_cookies, TOKENS_COOKIE_NAME).get("id_token"):
            self._id_tokens.put(hash_secret(session), token)

    def cookies_of(self, sessions: list[str]) -> str:
        """Build the cookies of these sessions for Streamlit's logout route.

        Without the ID token, which is lost at a restart, providers may ask for confirmation.
        """
        values: dict[str, dict[str, str]] = {USER_COOKIE_NAME: {"provider": KEY}}
        for session in sessions:
            with suppress(KeyError):
                values[TOKENS_COOKIE_NAME] = {"id_token": self._id_tokens.take(hash_secret(session))}
        return "; ".join(
            f"{name}={create_signed_value(self._key, name, json.dumps(value)).decode()}"
            for name, value in values.items()
        )

    def _signed(self, set_cookies: list[str], name: str) -> JsonObject:
        """Return the content of a Streamlit cookie with a valid signature of ours, or {}."""
        values: dict[str, str] = {}
        for line in set_cookies:
            try:
                values |= {part: morsel.value for part, morsel in SimpleCookie(line).items()}
            except CookieError:
                continue

        def signed(part: str) -> bytes | None:
            return decode_signed_value(self._key, part, values[part]) if values.get(part) else None

        try:
            content = json.loads(get_cookie_with_chunks(signed, name) or b"{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


def is_streamlit_cookie(set_cookie: str) -> bool:
    """Whether a Set-Cookie header contains Streamlit's identity, which must not reach the browser."""
    return set_cookie.startswith((USER_COOKIE_NAME, TOKENS_COOKIE_NAME))


def extract_verified_email(claims: Mapping[str, Any]) -> str:
    """Return the e-mail address in the claims if the provider has verified it, else ""."""
    email = claims.get("email")
    return email if isinstance(email, str) and claims.get("email_verified") is True else ""


def read_provider(home: Home, environment: Mapping[str, str] = os.environ) -> Provider | None:
    """Read the provider's config from the environment and the home folder, or return None.

    The environment takes precedence. Raises ConfigError for missing or invalid fields, and for a file that
    other users can read.
    """
    given: JsonObject = {}
    if home.provider.exists():
        if stat.S_IMODE(home.provider.stat().st_mode) & 0o077:
            raise ConfigError(
                f"{home.provider} contains a secret, and other users can read it.",
                fix=f"Run: chmod 600 {home.provider}",
                field="oidc.toml",
            )
        try:
            given = tomllib.loads(home.provider.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{home.provider} can't be read: {error}.", field="oidc.toml") from error
    given |= {
        name: environment[variable] for name, variable in _VARIABLES.items() if environment.get(variable)
    }
    if not given:
        return None
    config = ProviderConfig.parse(given)
    for name in ("discovery_url", "address"):
        _check_address(name, getattr(config, name))
    return Provider(config)


def _check_address(name: str, value: str) -> None:
    parts = urlsplit(value)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.netloc or parts.scheme not in (("http", "https") if local else ("https",)):
        raise ConfigError(
            f"{name} is {value!r}.",
            fix="Set an address that begins with https:// (http:// only for this machine).",
            field=name,
        )
