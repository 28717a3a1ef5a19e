"""Split of rows into train, validation and test, as configured for data sets and runs.

It is separate from the config of a run, which data sets don't need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import Field, ValidationInfo, field_validator

from store.core.config import Config, Line
from store.core.row_schemas import SplitMethod
from store.jobs.schemas import SplitFields

DEFAULT_SHARE = 0.1  # share of the rows in each held-out part


class Split(Config):
    """Split of rows into train, validation and test. Rows with equal text stay in one part, and so do near
    duplicates once they are known.

    Sizes are shares of the rows. With 50 rows or more, a held-out part whose share is left at a tenth has at
    least 50 rows, if the other part's share and half the rows for training allow it; from a larger part, a
    run is evaluated on `max_eval_rows`. `split_by`: group: rows with the same value of the column stay
    together; time: the newest rows are test, the next newest validation; stratified: each value of the column
    has its share in every part; given: as in the imported file, and a part without rows in the file gets its
    share of the training rows. Columns are named as in `store.data.filters`.
    """

    split_seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed of the split")
    validation_size: float = Field(
        DEFAULT_SHARE, ge=0, le=0.5, description="Share of rows for selecting the best step"
    )
    test_size: float = Field(
        DEFAULT_SHARE, ge=0, le=0.5, description="Share of rows used only for the verdict"
    )
    split_by: SplitMethod = Field("random", description="random, group, time, stratified or given")
    split_column: Line | None = Field(
        None, validate_default=True, description="label or source.NAME; label by default for stratified"
    )

    @field_validator("split_column")
    @classmethod
    def _named_where_needed(cls, value: str | None, validation: ValidationInfo) -> str | None:
        if validation.data.get("split_by") in ("group", "time") and not value:
            raise ValueError(f"a split by {validation.data['split_by']} needs a column, such as source.NAME")
        return value or None

    def fields(self) -> SplitFields:
        """Return the fields as a document."""
        return {
            "split_seed": self.split_seed,
            "validation_size": self.validation_size,
            "test_size": self.test_size,
            "split_by": self.split_by,
            "split_column": self.split_column,
        }


def get_split(asked: Mapping[str, Any], own: SplitFields) -> SplitFields:
    """Return the split fields of a run, with those it leaves open taken from its data set `own`.

    The data set's column is used only with the data set's `split_by`.
    """
    fields: SplitFields = {**own}
    chosen = {name: asked[name] for name in Split.model_fields if asked.get(name) is not None}
    if chosen.get("split_by", own["split_by"]) != own["split_by"]:
        fields["split_column"] = None
    return cast(SplitFields, {**fields, **chosen})  # `asked` comes from a config with these fields
