"""Saved recipes and saved slices (named filters) of a data set.

Each is private to its owner or shared with everybody, and names are unique per owner. The owner and admins
can change and delete it. Items saved before owners were recorded have no known owner: they are shared, and
admins manage them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from store.core.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, StateError
from store.core.schemas import Person
from store.data.cleaning import Recipe
from store.data.cleaning_text import describe_filter, describe_step
from store.data.filters import Filter
from store.data.schemas import RecipeRow, SavedItem, SliceRow
from store.db.named_query import AskerId, named_query
from store.db.records import read_records, to_json

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

_VISIBLE = "(shared OR created_by = ?)"
AnySaved = TypeVar("AnySaved", bound=SavedItem)


@dataclass(frozen=True)
class SaveRequest:
    """Request to save an item.

    seen: the revision that the person last saw, 0 for none; None overwrites whatever exists.
    """

    name: str
    by: Person
    at: datetime
    shared: bool
    seen: int | None


# -- recipes ----------------------------------------------------------------------------------------


@named_query
def recipes(db: Queryable, person_id: AskerId) -> list[RecipeRow]:
    """Return a person's own recipes and the shared ones, sorted by name."""
    sql = f"SELECT * FROM recipe WHERE {_VISIBLE} ORDER BY name, created_at"
    return read_records(db.query(sql, [person_id]), RecipeRow, ["steps"])


def save_recipe(tx: Transaction, new_id: str, recipe: Recipe, saving: SaveRequest) -> str:
    """Save a recipe, overwriting the person's own one of that name, and return its id.

    Raises ConfigError (name), ConflictError.
    """
    present = _find_own_checked(recipes(tx, saving.by.person_id), saving)
    _check_revision(present, saving, "recipe", describe_recipe)
    recipe_id = present.recipe_id if present else new_id
    row = {"recipe_id": recipe_id, "steps": to_json(recipe.model_dump()["steps"])}
    _write(tx, "recipe", row, present, saving)
    return recipe_id


def find_recipe(db: Queryable, name: str, by: Person, recipe_id: str = "") -> RecipeRow:
    """Find a recipe by id, else the person's own one of that name, else the shared one.

    Raises NotFoundError, and StateError if several people share one of that name.
    """
    return _find_visible(
        [row for row in recipes(db, by.person_id) if recipe_id in ("", row.recipe_id)], name, by
    )


def delete_recipe(tx: Transaction, recipe: RecipeRow, by: Person) -> None:
    """Delete a recipe. Raises ForbiddenError."""
    check_owner(recipe, by)
    tx.execute("DELETE FROM recipe WHERE recipe_id = ?", [recipe.recipe_id])


def describe_recipe(recipe: RecipeRow) -> str:
    """Describe a recipe's steps in one line."""
    steps = Recipe.parse({"steps": recipe.steps}).steps
    return "; ".join(describe_step(step) for step in steps)


# -- slices -----------------------------------------------------------------------------------------


@named_query
def slices(db: Queryable, dataset_id: str, person_id: AskerId) -> list[SliceRow]:
    """Return a person's own slices of a data set and the shared ones, sorted by name."""
    sql = (
        f"SELECT * EXCLUDE dataset_id FROM slice WHERE dataset_id = ? AND {_VISIBLE}"
        " ORDER BY name, created_at"
    )
    return read_records(db.query(sql, [dataset_id, person_id]), SliceRow, ["filter"])


def save_slice(tx: Transaction, new_id: str, dataset_id: str, where: Filter, saving: SaveRequest) -> str:
    """Save a filter as a slice, overwriting the person's own one of that name, and return its id.

    Raises ConfigError (name), ConflictError.
    """
    present = _find_own_checked(slices(tx, dataset_id, saving.by.person_id), saving)
    _check_revision(present, saving, "slice", describe_slice)
    slice_id = present.slice_id if present else new_id
    row = {"slice_id": slice_id, "dataset_id": dataset_id, "filter": to_json(where.model_dump())}
    _write(tx, "slice", row, present, saving)
    return slice_id


def find_slice(db: Queryable, dataset_id: str, name: str, by: Person, slice_id: str = "") -> SliceRow:
    """Find a slice; see `find_recipe`."""
    rows = slices(db, dataset_id, by.person_id)
    return _find_visible([row for row in rows if slice_id in ("", row.slice_id)], name, by)


def delete_slice(tx: Transaction, named_slice: SliceRow, by: Person) -> None:
    """Delete a slice. Raises ForbiddenError."""
    check_owner(named_slice, by)
    tx.execute("DELETE FROM slice WHERE slice_id = ?", [named_slice.slice_id])


def describe_slice(named_slice: SliceRow) -> str:
    """Describe the rows of a slice in words."""
    return describe_filter(Filter.parse(named_slice.filter))


# -- common -----------------------------------------------------------------------------------------


def can_edit(row: SavedItem, by: Person) -> bool:
    """Return whether a person may change and delete an item."""
    return by.role == "admin" or row.created_by == by.person_id


def check_owner(row: SavedItem, by: Person) -> None:
    """Raise ForbiddenError if a person may not change an item."""
    if not can_edit(row, by):
        raise ForbiddenError(
            f"{row.saved_by or 'Another person'} saved {row.name!r}. Only its owner and admins can change"
            " it.",
            fix="Save your own under another name.",
        )


def is_own(row: SavedItem, by: Person) -> bool:
    """Return whether saving under this name overwrites the item.

    Items without an owner belong to all admins.
    """
    return row.created_by == by.person_id or (row.created_by is None and by.role == "admin")


def find_own(rows: Sequence[AnySaved], name: str, by: Person) -> AnySaved | None:
    """Return the item that a person saved earlier under this name."""
    own = [row for row in rows if row.name == name and is_own(row, by)]
    return min(own, key=lambda row: row.created_by is None, default=None)


def _find_own_checked(rows: Sequence[AnySaved], saving: SaveRequest) -> AnySaved | None:
    """Return the person's own item of that name. Raises ConfigError (name) if the name is empty."""
    if not saving.name.strip():
        raise ConfigError("It needs a name.", field="name")
    return find_own(rows, saving.name.strip(), saving.by)


def _find_visible(rows: Sequence[AnySaved], name: str, by: Person) -> AnySaved:
    named = [row for row in rows if row.name == name]
    own = [row for row in named if row.created_by == by.person_id]
    candidates = own or named
    if not candidates:
        raise NotFoundError(f"There is no saved item named {name!r}.", field="name")
    if len(candidates) > 1:
        raise StateError(f"Several people share {name!r}.", fix="Use its id.", field="name")
    return candidates[0]


def _check_revision(present: AnySaved | None, saving: SaveRequest, noun: str, value: Any) -> None:
    """Raise ConflictError if the item has changed since the person last saw it."""
    if saving.seen is None or saving.seen == (present.revision if present else 0):
        return
    if present is None:
        raise ConflictError(
            f"The {noun} {saving.name!r} was deleted in the meantime.",
            fix="Save it as a new one.",
            field="name",
        )
    raise ConflictError(
        f"{present.saved_by or 'Another person'} saved the {noun} {present.name!r} on"
        f" {present.created_at:%d %b %Y at %H:%M} UTC: {value(present)}.",
        fix="Keep that version, or overwrite it with yours.",
        field="name",
    )


def _write(
    tx: Transaction, table: str, row: Mapping[str, Any], present: SavedItem | None, saving: SaveRequest
) -> None:
    by = saving.by
    whole = {
        **row,
        "name": saving.name.strip(),
        "created_at": saving.at,
        "created_by": present.created_by if present else by.person_id,
        "saved_by": by.name,
        "shared": saving.shared,
        "revision": present.revision + 1 if present else 1,
    }
    places = ", ".join(f"${name}" for name in whole)
    tx.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(whole)}) VALUES ({places})", whole)
    tx.made[table].append(str(whole[f"{table}_id"]))
