"""Playground feature of the engine: commands of conversations, and the service that answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.playground.commands import PlaygroundCommands
from engine.playground.conversations import ConversationService
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature, ServiceContext
from store.db.database import Queryable
from store.playground import conversations


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    return PlaygroundCommands(context.database, context.launching, context.clock).table()


def build_service(context: ServiceContext) -> ConversationService:
    return ConversationService(context.database, context.launcher, context.home, context.devices)


def list_sent_endpoints(db: Queryable) -> Iterator[Mapping[str, Any]]:
    """Yield the endpoint of every remote model in a conversation."""
    for settings in conversations.list_all_settings(db):
        for model in settings["models"]:
            if endpoint := model.get("endpoint"):
                yield endpoint


FEATURE = EngineFeature(
    build_commands=build_commands,
    services={"playground": build_service},
    list_sent_endpoints=list_sent_endpoints,
)
