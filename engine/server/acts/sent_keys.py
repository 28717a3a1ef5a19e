"""Secrets of the engine's machine that a body has sent to an address: who may ask for that.

Whoever chooses both the address and the variable (or file) that goes there as the key can read the secret. So
only admins choose a variable anew, and the machine's owner alone a file; others use the pairs with which a
judge was asked before, or that a conversation has, as every body that brings such a pair comes by here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from engine.server.acts.chosen_addresses import endpoints_in
from store.config.serving import judge_requests_config
from store.contract.errors import ForbiddenError
from store.contract.roles import RIGHTS, is_owner
from store.db.database import Queryable
from store.documents.tables.person import Person
from store.queries import conversations, jobs
from store.queries.evaluations import evaluation_pairs, evaluations

_JUDGED = (evaluations.KIND, evaluation_pairs.KIND, judge_requests_config.KIND)


def check_keys_sent(db: Queryable, body: BaseModel, person: Person) -> None:
    """Raise ForbiddenError where somebody has a secret of this machine sent to an address that nobody had it
    sent to before: a variable who is no admin, a file who isn't the machine's owner."""
    if is_owner(person):
        return
    governs = "govern" in RIGHTS[person["role"]]
    sent = [each for each in endpoints_in(body) if each.key_file or (each.key_env and not governs)]
    if not sent:
        return
    allowed = set(_sent_before(db))
    for each in sent:
        if (each.base_url, each.key_env, each.key_file) not in allowed:
            field, by = ("key_env", "an admin") if each.key_env else ("key_file", "the machine's owner")
            raise ForbiddenError(
                f"{field} sends a secret of the engine's machine to another:"
                f" {each.key_env or each.key_file} to {each.base_url}.",
                fix=f"Ask {by} to use it there once; then members may too.",
                field=field,
            )


def _sent_before(db: Queryable) -> Iterator[tuple[str, str, str]]:
    """Address, variable and file of each judge that was asked and each endpoint of a conversation. Read where
    they stand by their schema alone: a field that takes any text may hold something that looks like one."""
    for kind in _JUDGED:
        for job in jobs.of_kind(db, kind):
            config = job["config"]
            for judge in (config.get("judge"), *config.get("metrics", [])):
                if isinstance(judge, dict) and "base_url" in judge:
                    yield _pair(judge)
    for settings in conversations.all_settings(db):
        for model in settings["models"]:
            if endpoint := model.get("endpoint"):
                yield _pair(endpoint)


def _pair(endpoint: Mapping[str, Any]) -> tuple[str, str, str]:
    return endpoint["base_url"], endpoint.get("key_env") or "", endpoint.get("key_file") or ""
