"""Query functions that can be called by name, so that no client ever sends SQL.

A query function takes as first argument anything with `query(sql, params)` and reads with its own statements.
Decorated with `@named_query`, it also accepts a `Remote` there, which has no `query`: then its name and
arguments are sent, the engine validates them and runs the same function over its store, and the result is
sent back (`store.db.query_answers`). The same function thus serves engine, screens, command line and tests.
`store.core.rights` defines which role may call which name; a name that is not there is forbidden for
everyone.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import inspect
import json
import pkgutil
import types
from collections.abc import Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import store
from store.core.config import Config
from store.core.documents import DICTS, LISTS, get_type_fields, strip_annotations
from store.core.errors import ConfigError, ForbiddenError
from store.core.rights import SQL_RIGHT, check_complete, check_right
from store.core.schemas import Person

if TYPE_CHECKING:
    from store.db.database import Queryable

Arguments = Mapping[str, Any]  # of a query function, by name, as JSON
Checked = dict[str, Any]  # the same, converted to the parameter types
Check = Callable[[Any, str], Any]  # (value, name for errors) -> value of the type


@functools.cache
def get_converter(hint: Any) -> Check:
    """Return the function that converts untrusted JSON to an argument of a type. It raises ConfigError that
    names the argument if the value does not fit.
    """
    hint = strip_annotations(hint)
    origin, args = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return lambda value, name: value
    if origin is Literal:
        return functools.partial(_check_choice, args)
    if origin in (Union, types.UnionType):
        return functools.partial(_convert_union, hint, args)
    if origin in LISTS:
        return functools.partial(_convert_list, args[0])
    if origin is tuple:
        return functools.partial(_convert_tuple, args)
    if origin in DICTS:
        return functools.partial(_convert_dict, *args)
    if hint in _PLAIN_TYPES:
        return functools.partial(_check_plain, hint)
    if hint is datetime.datetime:
        return _convert_datetime
    fields = get_type_fields(hint)
    if fields is not None and not is_typeddict(hint):  # rows of the store are sent by reference
        return functools.partial(_convert_document, hint, fields)
    raise TypeError(f"no argument may be of the type {hint}")


_PLAIN_TYPES: Mapping[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    type(None): (type(None),),
}


def _check_plain(hint: Any, value: Any, name: str) -> Any:
    if not isinstance(value, _PLAIN_TYPES[hint]) or (isinstance(value, bool) and hint is not bool):
        raise _make_type_error(
            value, name, "no value" if hint is type(None) else f"of the type {hint.__name__}"
        )
    return value


def _check_choice(choices: tuple[Any, ...], value: Any, name: str) -> Any:
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise _make_type_error(value, name, f"one of {', '.join(map(str, choices))}")
    return value


def _convert_union(hint: Any, members: tuple[Any, ...], value: Any, name: str) -> Any:
    for member in members:
        try:
            return get_converter(member)(value, name)
        except ConfigError as error:
            last = error
    raise last


def _convert_list(inner: Any, value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise _make_type_error(value, name, "a list")
    convert = get_converter(inner)
    return [convert(each, name) for each in value]


def _convert_tuple(args: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is ...:
        return tuple(_convert_list(args[0], value, name))
    if not isinstance(value, list) or len(value) != len(args):
        raise _make_type_error(value, name, f"a list of {len(args)}")
    return tuple(get_converter(kind)(each, name) for kind, each in zip(args, value, strict=True))


def _convert_dict(key: Any, inner: Any, value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _make_type_error(value, name, "an object")
    convert = get_converter(inner)
    return {_convert_key(key, text, name): convert(each, name) for text, each in value.items()}


def _convert_key(hint: Any, text: str, name: str) -> Any:
    if strip_annotations(hint) in (int, float):
        try:
            return strip_annotations(hint)(text)
        except ValueError:
            raise _make_type_error(text, name, "a number") from None
    return text


def _convert_datetime(value: Any, name: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _make_type_error(value, name, "a time such as 2026-01-31T12:00:00") from None


def _convert_document(hint: Any, fields: Mapping[str, Any], value: Any, name: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, Config):
        return hint.parse(value)
    if hasattr(hint, "_fields") and isinstance(value, list) and len(value) == len(fields):
        value = dict(zip(fields, value, strict=True))  # JSON represents a named tuple as a list
    if not isinstance(value, dict) or not value.keys() <= fields.keys():
        raise _make_type_error(value, name, f"an object with {', '.join(fields)}")
    parts = {key: get_converter(fields[key])(part, f"{name}.{key}") for key, part in value.items()}
    try:
        return hint(**parts)
    except TypeError as error:  # a field is missing
        raise _make_type_error(value, name, f"an object with {', '.join(fields)}") from error


def _make_type_error(value: Any, name: str, wanted: str) -> ConfigError:
    given = json.dumps(value, default=str)[:100]
    return ConfigError(f"{name} is {given}; it has to be {wanted}.", field=name)


AskerId = Annotated[str, "who asks"]  # must be the requester's own person_id
P = ParamSpec("P")
R = TypeVar("R")
PACKAGE = "store."


class Remote:
    """A store in another process, which only runs queries by name."""

    def answer(self, name: str, arguments: Arguments, returns: Any) -> Any:
        """Return the result of the query function `name`, of type `returns`."""
        raise NotImplementedError


class NamedQuery:
    """A query function with its name and the types of its parameters and result."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = f"{function.__module__.removeprefix(PACKAGE)}.{function.__name__}"
        self._signature = inspect.signature(function)
        self._store = next(iter(self._signature.parameters))  # name of the store parameter

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """The types of the parameters, and of `return`."""
        names = {"Queryable": object}  # imported for type checking only: it would load DuckDB
        return {
            key: hint
            for key, hint in get_type_hints(self.function, localns=names, include_extras=True).items()
            if key != self._store
        }

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """Return the arguments of a call by name, ready to send: stored objects are replaced by their
        references.
        """
        bound = self._signature.bind(None, *args, **kwargs).arguments
        return {
            name: _load_by_reference(value, self.hints[name])
            for name, value in bound.items()
            if name != self._store
        }

    def check(self, db: Queryable, arguments: Arguments, person: Person) -> Checked:
        """Convert untrusted arguments to the types of the parameters; stored objects are read again by
        reference. Raises ConfigError that names the argument, NotFoundError, and ForbiddenError if an
        argument belongs to another person, or contains SQL and the person may not write any.
        """
        takes = self._signature.parameters
        for name in arguments:
            if name not in takes or name == self._store:
                raise ConfigError(f"{self.name} takes no {name}.", field=name)
        for name, parameter in takes.items():
            if name != self._store and parameter.default is parameter.empty and name not in arguments:
                raise ConfigError(f"{self.name} needs {name}.", field=name)
        checked = {}
        for name, value in arguments.items():
            hint = self.hints[name]
            if (reference := _find_reference(hint)) is not None:
                checked[name] = _load(db, value, reference, name)
            else:
                checked[name] = get_converter(hint)(value, name)
            if hint == AskerId and value != person.person_id:
                raise ForbiddenError(f"{name} is another person's.", field=name)
        if has_sql(checked):
            check_right(person, SQL_RIGHT)
        return checked

    def run(self, db: Queryable, checked: Checked) -> Any:
        """Run the function on a store."""
        return self.function(db, **checked)


def named_query(
    function: Callable[Concatenate[Queryable, P], R],
) -> Callable[Concatenate[Queryable | Remote, P], R]:
    """Make a query function callable by name. Its name has to be listed in `store.core.rights` too."""
    query = NamedQuery(function)

    @functools.wraps(function)
    def ask(db: Queryable | Remote, *args: P.args, **kwargs: P.kwargs) -> R:
        if isinstance(db, Remote):
            answer: R = db.answer(query.name, query.bind(args, kwargs), query.hints["return"])
            return answer
        return function(db, *args, **kwargs)

    ask.named_query = query  # type: ignore[attr-defined]
    return ask


def has_sql(checked: Checked) -> bool:
    """Return whether an argument contains SQL written by a person. Such queries run where `POST
    /sql` does.
    """
    return any(getattr(value, "written_sql", "") for value in checked.values())


class StoredReference:
    """How a stored object is sent as an argument: as its key, by which the engine reads it again. A client
    thus can't send a forged object with paths of someone else.
    """

    def __init__(self, key: Callable[[Any], str], load: Callable[[Queryable, str], Any]) -> None:
        self.key, self.load = key, load


_REFERENCES: dict[Any, StoredReference] = {}


def register_reference(kind: type, key: Callable[[Any], str], load: Callable[[Queryable, str], Any]) -> None:
    """Send objects of a type by reference wherever a query function takes one, or a sequence of them."""
    _REFERENCES[kind] = StoredReference(key, load)


def _find_reference(hint: Any) -> tuple[StoredReference, bool] | None:
    """Return the reference type of a parameter, and whether it is a sequence; None if sent by value."""
    if reference := _REFERENCES.get(hint):
        return reference, False
    inner = get_args(hint)
    if len(inner) == 1 and (reference := _REFERENCES.get(inner[0])):
        return reference, True
    return None


def _load_by_reference(value: Any, hint: Any) -> Any:
    stored = _find_reference(hint)
    if stored is None:
        return value
    reference, several = stored
    return [reference.key(each) for each in value] if several else reference.key(value)


def _load(db: Queryable, value: Any, stored: tuple[StoredReference, bool], name: str) -> Any:
    reference, several = stored
    if several:
        return [reference.load(db, key) for key in get_converter(list[str])(value, name)]
    return reference.load(db, get_converter(str)(value, name))


def load_queries() -> Mapping[str, NamedQuery]:
    """Return all named queries by name. Raises StateError if one has no right, or a right has no query."""
    queries: dict[str, NamedQuery] = {}
    for module in pkgutil.walk_packages(store.__path__, PACKAGE):
        for value in vars(importlib.import_module(module.name)).values():
            query = getattr(value, "named_query", None)
            if isinstance(query, NamedQuery):
                queries[query.name] = query
    check_complete("query", queries)
    return queries
