"""Commands on endpoints and their API keys.

The supervisor's next step carries them out, except that a key is valid, or revoked, as soon as its command
returns.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable
from contextlib import suppress

from engine.server.command import CREATED, ActivitySubject, Command
from engine.server.file_removal import remove_noted
from engine.serving.endpoint_folders import EndpointFolder, build_gateway_config, sync_keys
from store.core.errors import ConfigError, ForbiddenError, StateError
from store.core.home import Home
from store.core.rights import RIGHTS
from store.core.schemas import Person
from store.db.database import Database, Queryable, Transaction
from store.http.access import create_secret, hash_secret
from store.http.schemas import CreatedEndpoint, CreatedEndpointKey, EmptyAnswer
from store.jobs import job_queue
from store.monitoring import monitors
from store.serving import endpoints
from store.serving.config import (
    FIRST_PORT,
    ChangeEndpoint,
    EndpointReference,
    EndpointSettings,
    KeyReference,
    MakeEndpoint,
    NewKey,
)
from store.serving.schemas import EndpointRow

KEY = "tbe_"  # prefix of endpoint keys
MAX_KEYS = 1000
PORTS = 200


class EndpointCommands:
    """Endpoint commands on one store."""

    def __init__(self, database: Database, home: Home, clock: Callable[[], float]) -> None:
        self.database, self.home, self.clock = database, home, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        by_endpoint = _find_endpoint_subject
        return {
            "make_endpoint": Command(
                MakeEndpoint, self.make_endpoint, CREATED, makes_work=True, by_person=True
            ),
            "change_endpoint": Command(ChangeEndpoint, self.change_endpoint, by_endpoint, by_person=True),
            "start_endpoint": Command(EndpointReference, self.start_endpoint, by_endpoint, makes_work=True),
            "stop_endpoint": Command(EndpointReference, self.stop_endpoint, by_endpoint),
            "delete_endpoint": Command(EndpointReference, self.delete_endpoint, by_endpoint),
            "make_key": Command(NewKey, self.make_key, by_endpoint, by_person=True),
            "revoke_key": Command(KeyReference, self.revoke_key, _find_key_subject, by_person=True),
        }

    def make_endpoint(self, body: MakeEndpoint, person: Person) -> CreatedEndpoint:
        """Create an endpoint; rejected if one of its subjects can't be served."""
        now = self.clock()
        settings = EndpointSettings.parse(body.model_dump(exclude={"name", "start", "with_key"}))
        _check_keys_sent(settings, None, person)
        with self.database.transaction() as tx:
            if body.name in endpoints.list_names(tx):
                raise ConfigError(
                    f"There is an endpoint {body.name!r} already.", fix="Give another name.", field="name"
                )
            settings = settings.model_copy(
                update={"port": settings.port or _find_free_port(tx, settings.host)}
            )
            row = EndpointRow(
                endpoint_id=job_queue.create_id("endpoint", now),
                name=body.name,
                wanted="running" if body.start else "stopped",
                wanted_at=now,
                settings=settings.model_dump(),
                created_by=person.person_id,
                created_by_name=person.name,
                created_at=now,
            )
            build_gateway_config(tx, self.home, row)
            endpoints.add(tx, row)
            key = self._create_key(tx, row.endpoint_id, person, body.with_key) if body.with_key else None
        return {"endpoint_id": row.endpoint_id, "name": row.name, "key": key["key"] if key else None}

    def change_endpoint(self, body: ChangeEndpoint, person: Person) -> EmptyAnswer:
        """Change the settings. The running config stays in use until everything new is ready."""
        with self.database.transaction() as tx:
            row = endpoints.get(tx, body.endpoint)
            old = EndpointSettings.parse(row.settings)
            _check_keys_sent(body.settings, old, person)
            settings = body.settings.model_copy(update={"port": body.settings.port or old.port})
            if row.wanted == "running" and (settings.host, settings.port) != (old.host, old.port):
                raise StateError(
                    f"{row.name} runs at {old.host}:{old.port}, which can't change meanwhile.",
                    fix="Stop it, change it, and start it again.",
                )
            row.settings = settings.model_dump()
            build_gateway_config(tx, self.home, row)
            endpoints.set_settings(tx, row.endpoint_id, row.settings)
        return {}

    def start_endpoint(self, body: EndpointReference) -> EmptyAnswer:
        """Start the endpoint; if it is running, retry the backends that failed to start."""
        with self.database.transaction() as tx:
            row = endpoints.get(tx, body.endpoint)
            build_gateway_config(tx, self.home, row)
            endpoints.set_running(tx, row.endpoint_id, "running", self.clock())
        return {}

    def stop_endpoint(self, body: EndpointReference) -> EmptyAnswer:
        """Stop the endpoint once the requests in progress are finished."""
        with self.database.transaction() as tx:
            endpoint_id = endpoints.get(tx, body.endpoint).endpoint_id
            endpoints.set_running(tx, endpoint_id, "stopped", self.clock())
        return {}

    def delete_endpoint(self, body: EndpointReference) -> EmptyAnswer:
        """Delete a stopped endpoint with its keys, its log and its monitoring data."""
        with self.database.transaction() as tx:
            row = endpoints.get(tx, body.endpoint)
            folder = EndpointFolder(self.home, row.endpoint_id)
            if row.wanted == "running" or folder.get_process():
                raise StateError(
                    f"{row.name} still runs.",
                    fix=f"Stop it first: tunebench endpoint stop {shlex.quote(row.name)}",
                )
            endpoints.delete(tx, row.endpoint_id)
            monitors.forget(tx, row.endpoint_id)  # its log is no longer read either
            job_queue.note_removals(tx, self.home, [folder.path])
        remove_noted(self.database, self.home)
        return {}

    # -- keys ---------------------------------------------------------------------------------------

    def make_key(self, body: NewKey, person: Person) -> CreatedEndpointKey:
        """Create a key in the name of the requesting person."""
        with self.database.transaction() as tx:
            row = endpoints.get(tx, body.endpoint)
            created = self._create_key(
                tx, row.endpoint_id, person, body.name, body.requests_per_minute, body.tokens_per_day
            )
        self._publish_keys(row.endpoint_id)
        return created

    def _create_key(
        self, tx: Transaction, endpoint_id: str, person: Person, name: str, *quotas: int | None
    ) -> CreatedEndpointKey:
        valid_keys = [key for key in endpoints.list_keys(tx, endpoint_id) if key.revoked_at is None]
        if len(valid_keys) >= MAX_KEYS:
            raise StateError(
                f"There are {len(valid_keys):,} keys, as many as one endpoint may have.", fix="Revoke some."
            )
        now, secret = self.clock(), KEY + create_secret()
        key_id = job_queue.create_id("key", now)
        requests, tokens = quotas or (None, None)
        endpoints.add_key(
            tx,
            {
                "key_id": key_id,
                "endpoint_id": endpoint_id,
                "person_id": person.person_id,
                "person_name": person.name,
                "name": name,
                "secret": hash_secret(secret),
                "requests_per_minute": requests,
                "tokens_per_day": tokens,
                "created_at": job_queue.to_utc(now),
            },
        )
        return {"key_id": key_id, "key": secret}

    def revoke_key(self, body: KeyReference, person: Person) -> EmptyAnswer:
        """Revoke the key; its requests in progress are ended."""
        with self.database.transaction() as tx:
            key = endpoints.get_key(tx, body.key)
            if key.person_id != person.person_id and "govern" not in RIGHTS[person.role]:
                raise ForbiddenError(
                    f"This key is {key.person_name}'s.", fix="Its owner and admins can revoke it."
                )
            endpoints.revoke_key(tx, body.key, job_queue.to_utc(self.clock()))
        self._publish_keys(key.endpoint_id)
        return {}

    def _publish_keys(self, endpoint_id: str) -> None:
        """Write the keys for a running gateway. If that fails, the supervisor reports it and retries."""
        folder = EndpointFolder(self.home, endpoint_id)
        if folder.get_process():
            with suppress(OSError):
                sync_keys(self.database, folder)


def find_created_subject(tx: Transaction) -> ActivitySubject | None:
    """Return the endpoint that a transaction created; None if it created none."""
    return next((_build_subject(endpoints.get(tx, endpoint_id)) for endpoint_id in tx.made["endpoint"]), None)


def _build_subject(endpoint: EndpointRow) -> ActivitySubject:
    return ActivitySubject("endpoint", endpoint.endpoint_id, endpoint.name)


def _find_endpoint_subject(
    db: Queryable, body: EndpointReference | ChangeEndpoint, *_: Person
) -> ActivitySubject:
    return _build_subject(endpoints.get(db, body.endpoint))


def _find_key_subject(db: Queryable, body: KeyReference, *_: Person) -> ActivitySubject:
    """Return the key's endpoint, with the key's name as the detail."""
    key = endpoints.get_key(db, body.key)
    return _build_subject(endpoints.get(db, key.endpoint_id))._replace(detail=key.name)


def _check_keys_sent(settings: EndpointSettings, old: EndpointSettings | None, person: Person) -> None:
    """Raise ForbiddenError if an environment variable would be sent to a new address without an admin."""
    added = settings.keys_sent - (old.keys_sent if old else frozenset())
    if added and "govern" not in RIGHTS[person.role]:
        address, variable = sorted(added)[0]
        raise ForbiddenError(
            f"key_env sends a variable of this machine to another: {variable} to {address}.",
            fix="Ask an admin to set it.",
            field="key_env",
        )


def _find_free_port(db: Queryable, host: str) -> int:
    """Return the first port that neither another endpoint nor another program uses."""
    used_ports = {row.settings.get("port") for row in endpoints.listed(db)}
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        if port not in used_ports and _is_free(host, port):
            return port
    raise StateError(
        f"No port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free.", fix="Give one with --port."
    )


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
