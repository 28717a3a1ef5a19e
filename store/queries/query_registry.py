"""All query functions that may be asked by name, as the table of rights lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

import store.queries
from store.contract.rights import check_complete
from store.db.named_query import NamedQuery


def load_queries() -> Mapping[str, NamedQuery]:
    """Each by its name. Raises StateError where one has no right, or a right has none."""
    queries: dict[str, NamedQuery] = {}
    for module in pkgutil.walk_packages(store.queries.__path__, f"{store.queries.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            query = getattr(value, "named_query", None)
            if isinstance(query, NamedQuery):
                queries[query.name] = query
    check_complete("query", queries)
    return queries
