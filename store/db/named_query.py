"""Query functions that may be asked by name, so that no client ever sends SQL.

A query function takes anything with `query(sql, params)` first and reads by statements of its own. Marked
with `@named_query` it takes a `Remote` in that place, too, which has no `query`: then its name and its
arguments travel, the engine runs the same function over its store, and what it returns travels back
(`store.db.query_answers`). So one function serves engine, screens, command line and tests. Which role may ask
for which name is said in `store.contract.rights`; a name that is not there is nobody's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar, get_args, get_type_hints

from store.contract.errors import ConfigError, ForbiddenError
from store.contract.rights import SQL_RIGHT
from store.contract.roles import check_right
from store.db.query_arguments import Arguments, Checked, converter
from store.documents.tables.person import Person

if TYPE_CHECKING:
    from store.db.database import Queryable

AskerId = Annotated[str, "who asks"]  # the id of a person, who gets their own things by it
P = ParamSpec("P")
R = TypeVar("R")
PACKAGE = "store.queries."


class Remote:
    """A store in another process: it answers questions by their name alone."""

    def answer(self, name: str, arguments: Arguments, returns: Any) -> Any:
        """What the query function `name` returns, which is of the type `returns`."""
        raise NotImplementedError


class NamedQuery:
    """A query function, its name, and the types of what it takes and returns."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = f"{function.__module__.removeprefix(PACKAGE)}.{function.__name__}"
        self._signature = inspect.signature(function)
        self._store = next(iter(self._signature.parameters))  # the parameter that takes the store

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """The types of the parameters, and of `return`."""
        names = {"Queryable": object}  # known to the type checker alone: it would load DuckDB
        return {
            key: hint
            for key, hint in get_type_hints(self.function, localns=names, include_extras=True).items()
            if key != self._store
        }

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """The arguments of a call by name, as they travel: what is stored goes by its reference."""
        bound = self._signature.bind(None, *args, **kwargs).arguments
        return {
            name: _by_reference(value, self.hints[name])
            for name, value in bound.items()
            if name != self._store
        }

    def check(self, db: Queryable, arguments: Arguments, person: Person) -> Checked:
        """Arguments that anybody may have written, as their types say, stored things read anew by their
        reference. Raises ConfigError that names the argument, NotFoundError, and ForbiddenError where they
        are another person's, or hold SQL of one who may not write any."""
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
            if (reference := _reference_in(hint)) is not None:
                checked[name] = _load(db, value, reference, name)
            else:
                checked[name] = converter(hint)(value, name)
            if hint == AskerId and value != person["person_id"]:
                raise ForbiddenError(f"{name} is another person's.", field=name)
        if holds_sql(checked):
            check_right(person, SQL_RIGHT)
        return checked

    def run(self, db: Queryable, checked: Checked) -> Any:
        """What the function returns over a store."""
        return self.function(db, **checked)


def named_query(
    function: Callable[Concatenate[Queryable, P], R],
) -> Callable[Concatenate[Queryable | Remote, P], R]:
    """Let a query function be asked by its name. It has to be named in `store.contract.rights`, too."""
    query = NamedQuery(function)

    @functools.wraps(function)
    def ask(db: Queryable | Remote, *args: P.args, **kwargs: P.kwargs) -> R:
        if isinstance(db, Remote):
            answer: R = db.answer(query.name, query.bind(args, kwargs), query.hints["return"])
            return answer
        return function(db, *args, **kwargs)

    ask.named_query = query  # type: ignore[attr-defined]
    return ask


def holds_sql(checked: Checked) -> bool:
    """Whether an argument holds SQL that a person wrote: such a query runs where `POST /sql` does."""
    return any(getattr(value, "written_sql", "") for value in checked.values())


class StoredReference:
    """How a stored thing travels as an argument: as its key, by which the engine reads it anew. So nobody can
    send one of their own making, with another's paths."""

    def __init__(self, key: Callable[[Any], str], load: Callable[[Queryable, str], Any]) -> None:
        self.key, self.load = key, load


_REFERENCES: dict[Any, StoredReference] = {}


def refer(kind: type, key: Callable[[Any], str], load: Callable[[Queryable, str], Any]) -> None:
    """Let things of a type travel by reference wherever a query function takes one, or a sequence of them."""
    _REFERENCES[kind] = StoredReference(key, load)


def _reference_in(hint: Any) -> tuple[StoredReference, bool] | None:
    """How things of a type travel, and whether it is a sequence of them; None for what travels whole."""
    if reference := _REFERENCES.get(hint):
        return reference, False
    inner = get_args(hint)
    if len(inner) == 1 and (reference := _REFERENCES.get(inner[0])):
        return reference, True
    return None


def _by_reference(value: Any, hint: Any) -> Any:
    stored = _reference_in(hint)
    if stored is None:
        return value
    reference, several = stored
    return [reference.key(each) for each in value] if several else reference.key(value)


def _load(db: Queryable, value: Any, stored: tuple[StoredReference, bool], name: str) -> Any:
    reference, several = stored
    if several:
        return [reference.load(db, key) for key in converter(list[str])(value, name)]
    return reference.load(db, converter(str)(value, name))
