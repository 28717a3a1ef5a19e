"""How rows are split into train, validation and test, as data sets and runs ask for it; apart from the config
of a run, which data sets don't need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import Field, ValidationInfo, field_validator

from store.core.config import Config, Line
from store.core.row_schemas import SplitMethod
from store.jobs.schemas import SplitFields

DEFAULT_SHARE = 0.1  # of the rows, of each held-out part


class Split(Config):
    """How rows are dealt to train, validation and test; rows with equal text stay on one side, and near
    duplicates too once they are known.

    Sizes are shares of the rows. Of 50 rows or more a held-out part whose share was left at a tenth is at
    least 50 rows, where the other part's share and half the rows for training leave them; of a larger part
    a run judges itself on `max_eval_rows`. `split_by` group: rows with one value of the column stay together;
    time: the newest rows are test, then validation; stratified: each value of the column has its share in
    every part; given: as the file said when it was imported, and of a part that it has no row of the share
    of the training rows. `store.data.filters` names columns.
    """

    split_seed: int = Field(0, ge=0, le=2**31 - 1, description="Another seed deals other rows")
    validation_size: float = Field(
        DEFAULT_SHARE, ge=0, le=0.5, description="Share of rows that choose the best step"
    )
    test_size: float = Field(
        DEFAULT_SHARE, ge=0, le=0.5, description="Share of rows that only the verdict sees"
    )
    split_by: SplitMethod = Field("random", description="random, group, time, stratified or given")
    split_column: Line | None = Field(
        None, validate_default=True, description="label or source.NAME; stratified takes label where left out"
    )

    @field_validator("split_column")
    @classmethod
    def _named_where_needed(cls, value: str | None, validation: ValidationInfo) -> str | None:
        if validation.data.get("split_by") in ("group", "time") and not value:
            raise ValueError(f"a split by {validation.data['split_by']} needs a column, such as source.NAME")
        return value or None

    def fields(self) -> SplitFields:
        """The document of its fields."""
        return {
            "split_seed": self.split_seed,
            "validation_size": self.validation_size,
            "test_size": self.test_size,
            "split_by": self.split_by,
            "split_column": self.split_column,
        }


def get_split(asked: Mapping[str, Any], own: SplitFields) -> SplitFields:
    """The fields of Split: what a run asks for, and where it leaves them open those of its data set `own`.
    A column goes with the way of splitting that it was chosen for."""
    fields: SplitFields = {**own}
    chosen = {name: asked[name] for name in Split.model_fields if asked.get(name) is not None}
    if chosen.get("split_by", own["split_by"]) != own["split_by"]:
        fields["split_column"] = None
    return cast(SplitFields, {**fields, **chosen})  # `asked` is of a config, whose fields these are
