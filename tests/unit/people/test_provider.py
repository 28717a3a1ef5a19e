"""The organization's provider: where it is configured, and what of its claims counts."""

from __future__ import annotations

import json
from http.cookies import SimpleCookie
from typing import Any

import pytest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value, decode_signed_value

from pages.people.single_sign_on import (
    Provider,
    ProviderConfig,
    extract_verified_email,
    is_streamlit_cookie,
    read_provider,
)
from store.core.errors import ConfigError
from store.core.home import Home

FIELDS = {
    "client_id": "tunebench",
    "client_secret": "s3cret",
    "discovery_url": "https://id.example.org/.well-known/openid-configuration",
    "address": "https://lab.example.org/",
}


def write(home: Home, fields: dict[str, str], mode: int = 0o600) -> None:
    home.provider.write_text("".join(f'{name} = "{value}"\n' for name, value in fields.items()))
    home.provider.chmod(mode)


def test_most_have_none(home: Home) -> None:
    assert read_provider(home, {}) is None


def test_it_is_read_from_the_file_and_the_environment_wins(home: Home) -> None:
    write(home, FIELDS | {"name": "Example Lab"})
    provider = read_provider(home, {"TUNEBENCH_OIDC_CLIENT_SECRET": "newer"})
    assert provider
    assert provider.name == "Example Lab"
    auth = provider.secrets()["auth"]
    assert auth["redirect_uri"] == "https://lab.example.org/oauth2callback"
    assert auth["client_secret"] == "newer"
    assert len(auth["cookie_secret"]) > 40
    assert provider.is_at("lab.example.org")
    assert provider.is_at("LAB.example.org")
    assert not provider.is_at("lab.example.org:8501")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused(home: Home, mode: int) -> None:
    write(home, FIELDS, mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_provider(home, {})


@pytest.mark.parametrize("missing", sorted(FIELDS))
def test_a_missing_field_is_named(home: Home, missing: str) -> None:
    write(home, {name: value for name, value in FIELDS.items() if name != missing})
    with pytest.raises(ConfigError) as caught:
        read_provider(home, {})
    assert caught.value.field == missing
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("discovery_url", "http://id.example.org/x"),
        ("discovery_url", "id.example.org"),
        ("address", "http://lab.example.org"),
        ("address", "file:///etc"),
    ],
)
def test_an_address_that_is_not_https_is_refused(home: Home, field: str, value: str) -> None:
    write(home, FIELDS | {field: value})
    with pytest.raises(ConfigError) as caught:
        read_provider(home, {})
    assert caught.value.field == field


def test_this_machine_may_go_without_tls(home: Home) -> None:
    local = {"discovery_url": "http://127.0.0.1:9400/x", "address": "http://localhost:8501"}
    write(home, FIELDS | local)
    assert read_provider(home, {})


def test_a_damaged_file_is_named(home: Home) -> None:
    home.provider.write_text("client_id = ")
    home.provider.chmod(0o600)
    with pytest.raises(ConfigError, match="can't be read"):
        read_provider(home, {})


@pytest.mark.parametrize(
    ("claims", "email"),
    [
        ({"email": "a@b.c", "email_verified": True}, "a@b.c"),
        ({"email": "a@b.c", "email_verified": False}, ""),
        ({"email": "a@b.c", "email_verified": "true"}, ""),
        ({"email": "a@b.c"}, ""),
        ({"email_verified": True}, ""),
        ({"email": ["a@b.c"], "email_verified": True}, ""),
        ({}, ""),
    ],
)
def test_only_an_address_that_was_verified_counts(claims: dict[str, Any], email: str) -> None:
    assert extract_verified_email(claims) == email


def cookie(key: str, claims: object, name: str = "_streamlit_user") -> str:
    value = create_signed_value(key, name, json.dumps(claims)).decode()
    return f"{name}={value}; HttpOnly; Path=/; SameSite=lax"


def test_who_came_is_read_from_our_own_signature_alone() -> None:
    provider = Provider(ProviderConfig.parse(FIELDS))
    key = provider.secrets()["auth"]["cookie_secret"]
    claims = {"email": "a@b.c", "email_verified": True}
    assert provider.claims([cookie(key, claims)]) == claims
    assert provider.claims(["other=1; Path=/", cookie(key, claims)]) == claims
    assert provider.claims([cookie("another key", claims)]) == {}
    assert provider.claims([cookie(key, claims, "_streamlit_user_tokens")]) == {}
    assert provider.claims([cookie(key, ["a"])]) == {}
    assert provider.claims(["_streamlit_user=; Path=/"]) == {}
    assert provider.claims([]) == {}


def test_the_cookies_of_who_signed_in_stay_here() -> None:
    for name in ("_streamlit_user", "_streamlit_user_1", "_streamlit_user_tokens"):
        assert is_streamlit_cookie(f"{name}=x; Path=/")
    assert not is_streamlit_cookie("_streamlit_session=x; Path=/")


def test_whose_session_to_end_is_told_once_by_the_token_that_it_began_with() -> None:
    provider = Provider(ProviderConfig.parse(FIELDS))
    key = provider.secrets()["auth"]["cookie_secret"]
    tokens = {"id_token": "a.b.c", "access_token": "never kept"}
    provider.remember("session", [cookie(key, tokens, "_streamlit_user_tokens")])
    provider.remember("another", [cookie("another key", tokens, "_streamlit_user_tokens")])

    def cookies_for(*sessions: str) -> dict[str, Any]:
        jar = SimpleCookie(provider.cookies_of(list(sessions)))
        return {
            name: json.loads(decode_signed_value(key, name, morsel.value) or b"null")
            for name, morsel in jar.items()
        }

    who = {"_streamlit_user": {"provider": "default"}}
    assert cookies_for("another") == cookies_for() == who
    assert cookies_for("unknown", "session") == who | {"_streamlit_user_tokens": {"id_token": "a.b.c"}}
    assert cookies_for("session") == who
