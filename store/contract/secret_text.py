"""Secrets of our own making: long enough that nobody guesses one, kept as their SHA-256 alone."""

from __future__ import annotations

import hashlib
import secrets

API_TOKEN = "tb_"  # what API tokens begin with, so that one in a file is recognised as what it is


def new_secret() -> str:
    """256 random bits as text for addresses and cookies."""
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
