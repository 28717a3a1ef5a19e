"""Options of a command from a pydantic model: their names, types, defaults and help are those of its fields.

So command line, form and file agree.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo

from store.core.model_fields import read_kind

Command = TypeVar("Command", bound=Callable[..., None])
Options = dict[str, object]  # field -> given value; the others have the model's default
SCALARS = (bool, int, float)
MAX_METAVAR = 50  # characters; more choices are listed in the help
ALL_ROWS = "max_rows"  # a field whose null is 0 on the command line, as options can't express null


def add_options(
    parameter: str, model: type[BaseModel], *fields: str, partial: bool = False, **renamed: str
) -> Callable[[Command], Command]:
    """Replace a command's parameter of type Options by options for fields of a model.

    The parameter then gets the given options. partial: the model is an optional part, so nothing is
    required, and an empty text counts as not given. renamed: option -> field, if they differ.
    """
    options = {field: field for field in fields} | renamed
    nothing: tuple[Any, ...] = (None, [], "") if partial else (None, [])

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for each in inspect.signature(command, eval_str=True).parameters.values():
            if each.name != parameter:
                parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            for option, field in options.items():
                hint = build_option(option, field, model.model_fields[field])
                needed = model.model_fields[field].is_required() and not partial
                default = inspect.Parameter.empty if needed else None
                parameters.append(
                    inspect.Parameter(
                        option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint
                    )
                )

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            asked = {field: given.pop(option) for option, field in options.items()}
            chosen = {field: value for field, value in asked.items() if value not in nothing}
            if chosen.get(ALL_ROWS) == 0 and is_nullable(model.model_fields[ALL_ROWS].annotation):
                chosen[ALL_ROWS] = None
            command(**{parameter: chosen}, **given)

        parameters.sort(key=lambda each: not is_argument(each.annotation))  # arguments come first
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options  # type: ignore[return-value]

    return decorate


def build_option(option: str, field: str, described: FieldInfo) -> Any:
    """Return the annotated type of an option for a field of a model. The model validates the value."""
    field_kind = read_kind(described.annotation)
    kind = field_kind.type if field_kind.type in SCALARS else str
    repeated, choices = field_kind.repeated, field_kind.choices
    flag = f"--{option.replace('_', '-')}"
    switched = described.get_default() is False
    help = described.description or ""
    if field == ALL_ROWS and is_nullable(described.annotation):
        help = help.replace("all if null", "0 for all")
    help = help.replace("if null", "if omitted").replace("null", "omitted")
    listed = "|".join(map(str, choices))
    if len(listed) > MAX_METAVAR:
        help, listed = f"{help}: {', '.join(map(str, choices))}", ""
    if repeated:
        help = f"{help}; may be repeated"
    if default := format_default(described):
        help = f"{help}; default {default}"
    declared = typer.Option(
        flag if kind is bool and switched else f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=help,
        metavar=listed or None,
        show_default=False,
    )
    hint: Any = types.GenericAlias(list, kind) if repeated else kind
    return Annotated[hint | None, declared]


def is_argument(hint: Any) -> bool:
    """Whether a parameter of a command is a positional argument rather than an option."""
    return any(isinstance(part, ArgumentInfo) for part in get_args(hint))


def format_default(described: FieldInfo) -> str:
    """Return the model's default as shown by `--help`; empty for none."""
    default = None if described.is_required() else described.get_default(call_default_factory=True)
    return "" if default in (None, "", []) or isinstance(default, bool) else str(default)


def is_nullable(hint: Any) -> bool:
    """Whether the type includes None."""
    return type(None) in get_args(hint)
