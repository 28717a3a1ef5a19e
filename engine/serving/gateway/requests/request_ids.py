"""Ids of requests that tell by themselves whether this endpoint made them: feedback names a request by its
id, and no table of all ids has to be held."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from pathlib import Path

_MAC = 16  # hexadecimal digits
_PREFIXES = {"chat": "chatcmpl-", "labels": "chatcmpl-", "completion": "cmpl-", "decision": "s1-",
             "embedding": "embd-"}  # fmt: skip


class RequestIds:
    """Ids signed with a secret of the endpoint's folder."""

    def __init__(self, folder: Path) -> None:
        path = folder / "ids.key"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        self._secret = path.read_bytes()

    def new(self, kind: str, prefix: str = "") -> str:
        """An id that nobody guesses; those of one process sort by time. prefix: in place of its kind's."""
        rest = f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}"
        return f"{prefix or _PREFIXES[kind]}{rest}{self._mac(rest)}"

    def made(self, request_id: str) -> bool:
        """Whether this endpoint made it."""
        rest = re.split("[-_]", request_id)[-1]
        if not rest.isascii():
            return False
        return hmac.compare_digest(self._mac(rest[:-_MAC]), rest[-_MAC:])

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:_MAC]
