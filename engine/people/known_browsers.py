"""Browsers in which somebody has signed in before: a signed cookie that says so, of one account.

It opens nothing. Attempts from a browser that brings one are counted by themselves, so that nobody's wrong
guesses elsewhere make the right person wait. The signature covers the hash of the password: with another
password no earlier cookie counts, and whoever collected some while they knew the old one has none.
"""

from __future__ import annotations

import hashlib
import hmac

from store.contract.secret_text import new_secret
from store.queries.people.accounts import Account

KNOWN_SECONDS = 365 * 24 * 3600.0


class KnownBrowsers:
    """Makes the cookies and reads them; `secret` is known to the engine alone."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"known browsers\n" + secret.encode()).digest()

    def cookie(self, account: Account, at: float) -> str:
        """For a browser in which the person has signed in at that time."""
        claim = f"{new_secret()}.{int(at)}"
        return f"{claim}.{self._signature(account, claim)}"

    def name(self, cookie: str, account: Account | None, at: float) -> str | None:
        """By what attempts from this browser on the account are counted; None where it is not known."""
        claim, _, signature = cookie.rpartition(".")
        if account is None or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._signature(account, claim).encode()
        ):
            return None
        browser, _, since = claim.partition(".")
        return browser if at < int(since) + KNOWN_SECONDS else None

    def _signature(self, account: Account, claim: str) -> str:
        signed = "\n".join((account["person_id"], account["password"] or "", claim))
        return hmac.new(self._key, signed.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
