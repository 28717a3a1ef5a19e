"""The one way in which reading says that a row can't be taken."""

from __future__ import annotations


class RowSkipped(Exception):
    """This row can't be taken. The reason is the same for every row with the same fault."""
