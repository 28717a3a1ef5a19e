"""What the tab of versions reads, each answer kept for a moment; fates and comparisons never change."""

from __future__ import annotations

from pages.shared import reads
from pages.shared.session import client, kept_for
from store.documents.data.fates import Fate
from store.documents.tables.dataset import ComparedVersions, RowFates, Version
from store.queries.data import versions


@kept_for(reads.CALM, most=16)
def tree(dataset_id: str) -> list[Version]:
    """The family of a data set, each version after the one that it was made from."""
    return versions.tree(client(), dataset_id)


@kept_for(60, most=64)
def fates(
    dataset_id: str, fate: Fate | None, step: int | None, search: str, limit: int, offset: int
) -> RowFates:
    """A page of what became of the rows of the version before, and how many there are."""
    which = versions.FateFilter(fate, step, search)
    return versions.fates(client(), dataset_id, which, limit=limit, offset=offset)


@kept_for(60, most=64)
def compare(dataset_id: str, other: str, fate: Fate | None, limit: int, offset: int) -> ComparedVersions:
    """A page of the rows in which two versions differ, or of one fate, and the counts of all."""
    return versions.compare(client(), dataset_id, other, fate=fate, limit=limit, offset=offset)
