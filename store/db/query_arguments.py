"""Arguments of query functions: JSON that anybody may have written, held to the types of the parameters."""

from __future__ import annotations

import datetime
import functools
import json
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

from store.contract.document import Config
from store.contract.errors import ConfigError
from store.db.query_answers import DICTS, LISTS, bare, fields_of

Arguments = Mapping[str, Any]  # of a query function, by name, as JSON has them
Checked = dict[str, Any]  # the same, each of the type of its parameter
Check = Callable[[Any, str], Any]  # a value and the name of its place -> the value of the type


@functools.cache
def converter(hint: Any) -> Check:
    """What makes an argument of a type out of JSON that anybody may have written. For what is none it raises
    ConfigError, which names the argument."""
    hint = bare(hint)
    origin, args = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return lambda value, name: value
    if origin is Literal:
        return functools.partial(_one_of, args)
    if origin in (Union, types.UnionType):
        return functools.partial(_first_of, hint, args)
    if origin in LISTS:
        return functools.partial(_list, args[0])
    if origin is tuple:
        return functools.partial(_tuple, args)
    if origin in DICTS:
        return functools.partial(_dict, *args)
    if hint in _PLAIN:
        return functools.partial(_plain, hint)
    if hint is datetime.datetime:
        return _datetime
    fields = fields_of(hint)
    if fields is not None and not is_typeddict(hint):  # a row of the store travels by reference
        return functools.partial(_document, hint, fields)
    raise TypeError(f"no argument may be of the type {hint}")


_PLAIN: Mapping[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    type(None): (type(None),),
}


def _plain(hint: Any, value: Any, name: str) -> Any:
    if not isinstance(value, _PLAIN[hint]) or (isinstance(value, bool) and hint is not bool):
        raise _refuse(value, name, "no value" if hint is type(None) else f"of the type {hint.__name__}")
    return value


def _one_of(choices: tuple[Any, ...], value: Any, name: str) -> Any:
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise _refuse(value, name, f"one of {', '.join(map(str, choices))}")
    return value


def _first_of(hint: Any, members: tuple[Any, ...], value: Any, name: str) -> Any:
    for member in members:
        try:
            return converter(member)(value, name)
        except ConfigError as error:
            last = error
    raise last


def _list(inner: Any, value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise _refuse(value, name, "a list")
    convert = converter(inner)
    return [convert(each, name) for each in value]


def _tuple(args: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is ...:
        return tuple(_list(args[0], value, name))
    if not isinstance(value, list) or len(value) != len(args):
        raise _refuse(value, name, f"a list of {len(args)}")
    return tuple(converter(kind)(each, name) for kind, each in zip(args, value, strict=True))


def _dict(key: Any, inner: Any, value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _refuse(value, name, "an object")
    convert = converter(inner)
    return {_key(key, text, name): convert(each, name) for text, each in value.items()}


def _key(hint: Any, text: str, name: str) -> Any:
    if bare(hint) in (int, float):
        try:
            return bare(hint)(text)
        except ValueError:
            raise _refuse(text, name, "a number") from None
    return text


def _datetime(value: Any, name: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _refuse(value, name, "a time such as 2026-01-31T12:00:00") from None


def _document(hint: Any, fields: Mapping[str, Any], value: Any, name: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, Config):
        return hint.parse(value)
    if hasattr(hint, "_fields") and isinstance(value, list) and len(value) == len(fields):
        value = dict(zip(fields, value, strict=True))  # JSON has a named tuple as a list
    if not isinstance(value, dict) or not value.keys() <= fields.keys():
        raise _refuse(value, name, f"an object with {', '.join(fields)}")
    parts = {key: converter(fields[key])(part, f"{name}.{key}") for key, part in value.items()}
    try:
        return hint(**parts)
    except TypeError as error:  # a field is missing
        raise _refuse(value, name, f"an object with {', '.join(fields)}") from error


def _refuse(value: Any, name: str, wanted: str) -> ConfigError:
    given = json.dumps(value, default=str)[:100]
    return ConfigError(f"{name} is {given}; it has to be {wanted}.", field=name)
