"""A tool: what it is asked, what it answers, and what it does to what is there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from mcp.types import Tool, ToolAnnotations
from pydantic import create_model

from store.contract.document import Config
from store.http.client import Client
from tunebench.agents.output_schema import schema_of

Connect = Callable[[], Client]  # gives a client of the engine, or raises


@dataclass(frozen=True)
class Effect:
    """What a call does, as clients are told. reads: nothing else; destroys: something that is there ends or
    is replaced; repeatable: the same call again changes nothing more; leaves: it may reach other machines,
    such as the hub of models."""

    reads: bool = False
    destroys: bool = False
    repeatable: bool = False
    leaves: bool = False


READS = Effect(reads=True, repeatable=True)
READS_FROM_AFAR = Effect(reads=True, repeatable=True, leaves=True)
ADDS = Effect()
ADDS_FROM_AFAR = Effect(leaves=True)
REPLACES = Effect(destroys=True, repeatable=True)
STARTS = Effect(repeatable=True)


@dataclass(frozen=True)
class AgentTool:
    """One tool. `arguments`: its fields are those of the call; `spread`: they go to the function one by one,
    and not as the config that they make."""

    function: Callable[..., Mapping[str, Any]]
    effect: Effect
    arguments: type[Config]
    answer: type
    spread: bool

    @classmethod
    def of(cls, function: Callable[..., Mapping[str, Any]], effect: Effect) -> AgentTool:
        """From the function's own annotations: either one config, or an argument for each field."""
        hints = get_type_hints(function, include_extras=True)
        answer = hints.pop("return")
        only = next(iter(hints.values())) if len(hints) == 1 else None
        if isinstance(only, type) and issubclass(only, Config):
            return cls(function, effect, only, answer, spread=False)
        return cls(function, effect, _arguments_of(function, hints), answer, spread=True)

    @property
    def name(self) -> str:
        """That of its function."""
        return self.function.__name__

    def call(self, asked: Config) -> Mapping[str, Any]:
        """What it answers to arguments that were checked."""
        if not self.spread:
            return self.function(asked)
        return self.function(**{name: getattr(asked, name) for name in type(asked).model_fields})

    @cached_property
    def described(self) -> Tool:
        """As clients are told of it."""
        title = self.name.replace("_", " ").capitalize()
        return Tool(
            name=self.name,
            title=title,
            description=" ".join((inspect.getdoc(self.function) or "").split()),
            input_schema=_without_titles(self.arguments.model_json_schema()),
            output_schema=schema_of(self.answer),
            annotations=ToolAnnotations(
                title=title,
                read_only_hint=self.effect.reads,
                destructive_hint=self.effect.destroys,
                idempotent_hint=self.effect.repeatable,
                open_world_hint=self.effect.leaves,
            ),
        )


def _arguments_of(function: Callable[..., Any], hints: Mapping[str, Any]) -> type[Config]:
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    fields: dict[str, Any] = {
        name: (hint, ... if defaults[name] is inspect.Parameter.empty else defaults[name])
        for name, hint in hints.items()
    }
    return create_model(f"ArgumentsOf{function.__name__}", __base__=Config, **fields)


def _without_titles(schema: Any) -> Any:
    """pydantic gives each field its own name as a title, which says nothing."""
    if isinstance(schema, list):
        return [_without_titles(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(entry)
        for key, entry in schema.items()
        if key != "title" or not isinstance(entry, str)
    }
