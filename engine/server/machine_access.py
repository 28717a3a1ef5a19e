"""Restrictions on paths, addresses, and secrets sent to addresses, in requests to the engine.

Only the machine's owner may name arbitrary paths or key files; others name what the store knows, and use
pairs of address and key that were used before. Addresses are checked by their text before anything is
queued, with the private networks that an admin has allowed by the command here; what a name resolves to is
checked when connecting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from engine.server.command import ActivitySubject, Command
from engine.server.features import load_engine_features
from store.core.config import Config, SourceReference, can_be_path, list_partial_sources, list_sources
from store.core.errors import ConfigError, ForbiddenError
from store.core.home import Home
from store.core.metric_options import Endpoint
from store.core.rights import RIGHTS, is_owner
from store.core.schemas import Person
from store.core.version_folders import is_reference
from store.data.config import CleanPreviewQuery, CostQuery, ImportOptions, RenderingQuery
from store.db.database import Database, Queryable
from store.evaluation import evaluation_pairs, evaluations
from store.http.schemas import EmptyAnswer
from store.jobs import job_queue
from store.people import settings
from store.people.config import NetworkName
from store.training.train_config import BUNDLED_MODEL, TrainConfig

# A path in a request makes the engine read files with the rights of its user, and reveals whether they exist.
# So only the owner of the home folder may name paths; for others a model is one of the home folder's models,
# a registered version, a run, or a hub id, and a file is an uploaded one.

# Models of the bodies of the core's queries that name files or models.
QUERY_BODIES: Mapping[str, type[Config]] = {
    "preview": CostQuery,
    "advice": CostQuery,
    "rendering": RenderingQuery,
    "inspect": ImportOptions,
    "clean_preview": CleanPreviewQuery,
}
ADDRESSES = ("https://", "http://")


def load_query_bodies() -> Mapping[str, type[Config]]:
    """Return the models of query bodies, including those of the features."""
    own = {name: body for each in load_engine_features().values() for name, body in each.query_bodies.items()}
    return {**QUERY_BODIES, **own}


def check_named_sources(body: BaseModel, person: Person, home: Home) -> None:
    """Raise ForbiddenError, with the field, if somebody other than the machine's owner names a path."""
    if not is_owner(person):
        _check(list_sources(body), home)


def make_query_check(home: Home) -> Callable[[str, Mapping[str, object], Person], None]:
    """Return the same check for unvalidated bodies of queries. It raises ConfigError for an invalid body."""

    bodies = load_query_bodies()

    def check(name: str, body: Mapping[str, object], person: Person) -> None:
        if is_owner(person) or name not in bodies:
            return
        asked = bodies[name].parse(dict(body))
        named = [*list_sources(asked)]
        if isinstance(asked, CostQuery):
            named += list_partial_sources(TrainConfig, asked.config, "config")
        _check(named, home)
        if "work" not in RIGHTS[person.role]:
            _check_local_model(named, home)

    return check


def _check(named: Iterable[SourceReference], home: Home) -> None:
    for each in named:
        if each.value and not _can_name(each, home):
            raise _build_error(each, home)


def _check_local_model(named: Iterable[SourceReference], home: Home) -> None:
    """Raise ForbiddenError for a model that would be downloaded from a hub."""
    for each in named:
        if each.kind == "model" and each.value and not _is_local_model(each.value, home):
            raise ForbiddenError(
                f"{each.value[:200]} is not a model on this machine; downloading it from the hub requires a"
                " member.",
                fix="Choose one of the models of the home folder.",
                field=each.field,
            )


def _is_local_model(model: str, home: Home) -> bool:
    if is_reference(model) or model == BUNDLED_MODEL:
        return True
    return Path(model).name == model and model != ".." and (home.models / model).is_dir()


def _can_name(named: SourceReference, home: Home) -> bool:
    """Whether the value is no path, or the path of a file that people have uploaded."""
    if named.kind == "folder":
        return False
    if named.kind == "file":
        return _is_uploaded(named.value, home)
    if named.kind == "subject" and named.value.startswith(ADDRESSES):
        return True
    if _is_local_model(named.value, home):
        return True
    return not can_be_path(named.value, of_run=named.kind == "subject")


def _is_uploaded(path: str, home: Home) -> bool:
    """Whether the file is an upload, an export or the rows of a data set."""
    if "\0" in path or not os.path.isabs(path):
        return False
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(home.path))
    return inside and not home.holds(Path(path))


def _build_error(named: SourceReference, home: Home) -> ForbiddenError:
    fixes = {
        "file": "Upload the file instead.",
        "folder": "Ask the owner of the machine to register it; then anybody can name it as NAME@1.",
    }
    of_model = (
        f"Ask the owner of the machine to link the folder into {home.models}, or to register it; then name it"
        " by that name. Ids such as owner/name are those of the hub."
    )
    return ForbiddenError(
        f"Only the owner of the engine's machine names a path on it: {named.value[:200]}.",
        fix=fixes.get(named.kind, of_model),
        field=named.field,
    )


# User-chosen addresses in a body are refused before anything is queued, as far as their text tells.
#
# What a name resolves to is checked when connecting (`store.http.outgoing`). Routes and webhooks are checked
# by their own commands, as those are no `Endpoint`.


def check_addresses(db: Queryable, home: Home, body: BaseModel) -> None:
    """Raise ConfigError (base_url) for the first address that is not allowed."""
    for endpoint in find_endpoints(body):
        settings.get_address_policy(db, home).check(endpoint.base_url, "base_url")


def find_endpoints(part: Any) -> Iterator[Endpoint]:
    """Yield all endpoints within a body, at any depth."""
    if isinstance(part, Endpoint):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from find_endpoints(getattr(part, name))
    elif isinstance(part, Mapping):
        for entry in part.values():
            yield from find_endpoints(entry)
    elif isinstance(part, list | tuple):
        for entry in part:
            yield from find_endpoints(entry)


# Whoever chooses both the address and the variable (or file) sent there as the key can read the secret. So
# only admins choose a new variable, and only the machine's owner a file; others use pairs with which a judge
# was called before, or that a feature has stored, as every body with such a pair is checked here.

_JUDGE_KINDS = (evaluations.KIND, evaluation_pairs.KIND)


def check_keys_sent(db: Queryable, body: BaseModel, person: Person) -> None:
    """Raise ForbiddenError if a secret of this machine would be sent to an address it was never sent to.

    An admin may send a variable anywhere, and the machine's owner also a file.
    """
    if is_owner(person):
        return
    governs = "govern" in RIGHTS[person.role]
    sent = [each for each in find_endpoints(body) if each.key_file or (each.key_env and not governs)]
    if not sent:
        return
    allowed = set(_list_sent_keys(db))
    for each in sent:
        if (each.base_url, each.key_env, each.key_file) not in allowed:
            field, by = ("key_env", "an admin") if each.key_env else ("key_file", "the machine's owner")
            raise ForbiddenError(
                f"{field} sends a secret of the engine's machine to another:"
                f" {each.key_env or each.key_file} to {each.base_url}.",
                fix=f"Ask {by} to use it there once; then members may too.",
                field=field,
            )


def _list_sent_keys(db: Queryable) -> Iterator[tuple[str, str, str]]:
    """Yield address, variable and file of each judge used so far and each endpoint of a feature.

    They are read only from fields that the schema defines: a free-text field may contain something that looks
    like one.
    """
    for kind in _JUDGE_KINDS:
        for job in job_queue.list_of_kind(db, kind):
            config = job.config
            for judge in (config.get("judge"), *config.get("metrics", [])):
                if isinstance(judge, dict) and "base_url" in judge:
                    yield _get_endpoint_key(judge)
    for feature in load_engine_features().values():
        for endpoint in feature.list_sent_endpoints(db):
            yield _get_endpoint_key(endpoint)


def _get_endpoint_key(endpoint: Mapping[str, Any]) -> tuple[str, str, str]:
    return endpoint["base_url"], endpoint.get("key_env") or "", endpoint.get("key_file") or ""


MAX_NETWORKS = 100


class NetworkCommands:
    """Network commands of one store."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "allow_network": Command(NetworkName, self.allow_network, _find_network_subject),
            "refuse_network": Command(NetworkName, self.refuse_network, _find_network_subject),
        }

    def allow_network(self, body: NetworkName) -> EmptyAnswer:
        """Allow judges, routes, webhooks and remote models in a private network."""
        with self.database.transaction() as tx:
            allowed = settings.networks(tx)
            if len(allowed) >= MAX_NETWORKS:
                raise ConfigError(
                    f"{len(allowed)} networks are allowed, as many as there may be.",
                    fix="Allow one network that contains several of them.",
                    field="network",
                )
            if body.network not in allowed:
                settings.set_networks(tx, [*allowed, body.network])
        return {}

    def refuse_network(self, body: NetworkName) -> EmptyAnswer:
        """Remove a network from the allowed ones. Raises ConfigError (network) if it was not allowed."""
        with self.database.transaction() as tx:
            allowed = settings.networks(tx)
            if body.network not in allowed:
                raise ConfigError(
                    f"{body.network} is not allowed.",
                    fix=f"These are: {', '.join(allowed) or 'none'}.",
                    field="network",
                )
            settings.set_networks(tx, [network for network in allowed if network != body.network])
        return {}


def _find_network_subject(_: Queryable, body: NetworkName) -> ActivitySubject:
    return ActivitySubject("setting", settings.NETWORKS, f"the network {body.network}")
