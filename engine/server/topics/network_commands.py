"""The commands about private networks that requests to addresses of people's choice may go to."""

from __future__ import annotations

from engine.server.acts.command import ActivitySubject, Command
from store.config.people_config import NetworkName
from store.contract.errors import ConfigError
from store.db.database import Database, Queryable
from store.documents.tables.command_answers import Done
from store.queries import settings

MAX_NETWORKS = 100


class NetworkCommands:
    """The commands over one store."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "allow_network": Command(NetworkName, self.allow_network, _of_network),
            "refuse_network": Command(NetworkName, self.refuse_network, _of_network),
        }

    def allow_network(self, body: NetworkName) -> Done:
        """Judges, routes, webhooks and models elsewhere may be in it from now on."""
        with self.database.transaction() as tx:
            allowed = settings.networks(tx)
            if len(allowed) >= MAX_NETWORKS:
                raise ConfigError(
                    f"{len(allowed)} networks are allowed, as many as there may be.",
                    fix="Allow one network that holds several of them.",
                    field="network",
                )
            if body.network not in allowed:
                settings.set_networks(tx, [*allowed, body.network])
        return {}

    def refuse_network(self, body: NetworkName) -> Done:
        """No longer. Raises ConfigError (network) where it was not allowed."""
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


def _of_network(_: Queryable, body: NetworkName) -> ActivitySubject:
    return ActivitySubject("setting", settings.NETWORKS, f"the network {body.network}")
