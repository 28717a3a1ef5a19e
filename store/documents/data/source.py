"""Where the rows of a data set come from."""

from __future__ import annotations

from typing import Literal, TypedDict


class SourceDocument(TypedDict, total=False):
    """As it is stored, without what was left out (`store.config.data.import_config.Source`)."""

    path: str  # a file or a folder on the machine of the engine
    paths: list[str]  # several files on it
    upload: str  # the name of a file that was uploaded
    uploads: list[str]
    hub_id: str  # of the Hugging Face hub
    hub_config: str
    hub_split: str
    builtin: Literal["python"]  # rows made from this machine's own Python
    round: str  # the rating round that the file was made of
    round_ratings: str  # of that round: how many ratings count, and which were left out
    improvement: str  # that gathered the rows
