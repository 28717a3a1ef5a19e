"""What the questions are asked with that a worker answers while someone waits.

Past runs, the data set to replay and those that are probes are added by the engine
(`engine.server.scheduling.past_runs`); what else a body holds, its asker gave.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from store.config.training.train_config import Split
from store.contract.document import Config
from store.contract.named_sources import ModelSource
from store.contract.no_code_config import RunsNoCode
from store.documents.data.row import Kind

Document = dict[str, Any]
# The name of a folder of the data sets, and never a path to another.
Fingerprint = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]{0,127}$")]


class CostsAsk(Config):
    """`preview` and `advice`: a config of training that may be unfinished, and the rows that it is about."""

    config: Document
    fingerprint: Fingerprint
    split: Split = Field(default_factory=lambda: Split.parse({}))
    row: int = Field(0, ge=0, description="The row that a preview shows")
    past: list[Document] = Field(default_factory=list)
    replay: Document | None = None
    probes: list[Document] = Field(default_factory=list)
    imported_as: Document | None = None
    time_steps: bool = Field(False, description="Take a few steps for real where none like them were timed")
    running: bool = Field(False, description="A run is training, and the next one begins after it")
    launch: bool = Field(False, description="A launch waits for it: weights are looked at for longer")


class RenderingAsk(RunsNoCode):
    """A row as a model reads it, and what a length means for all rows."""

    # a template is taken as it is, with the white space at its ends
    model_config = ConfigDict(str_strip_whitespace=False)

    fingerprint: Fingerprint
    kind: Kind
    model: ModelSource = Field(min_length=1, max_length=1_000)
    chat_template: str = ""
    completion_only_loss: bool = True
    max_length: int | None = Field(None, ge=1, le=10_000_000)
    row: int = Field(0, ge=0)


class OrderedDataset(Config):
    """A data set as `store.queries.data.quality.work_order` describes it to a worker."""

    model_config = ConfigDict(extra="allow")

    dataset_id: str
    name: str = ""
    kind: Kind
    format: str
    columns: dict[str, str]
    fingerprint: Fingerprint
    row_count: int = Field(ge=0)
    signals: Document = Field(default_factory=dict)
