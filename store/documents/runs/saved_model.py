"""What lies beside a tuned model's files."""

from __future__ import annotations

from typing import Literal, TypedDict


class ModelOrigin(TypedDict, total=False):
    """Where a model comes from, beside its base."""

    continued_from: str | None  # the run that it went on from
    init_mode: str | None  # how: stack or merge
    own_base: bool  # its adapter belongs to the model in the job's folder `base/`, not to `base_model`
    mixed_from: str  # of a mix: the run of whose model
    alpha: float  # of a mix: the share of the way from the base


class ModelNote(ModelOrigin):
    """`tunebench.json` in the folder of a tuned model; of a classifier it has its labels too, in their
    order."""

    base_model: str
    method: str  # of store.catalog.methods
    adapter: bool  # an adapter, and not whole weights
    held: Literal["", "nf4", "int8"]  # how the base model was held while it was trained
    merges: bool  # the adapter can be merged into its base
