"""What a model card is written from: all that is known of a run's model or of a version, gathered by the
engine; an export adds what its worker alone sees."""

from __future__ import annotations

from typing import Any, TypedDict

from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import ListedFigure
from store.documents.models.saved_model import BaseReference, TrainedCourse
from store.documents.shipping.bias import BiasReport


class CardData(TypedDict):
    """A version of the data that a model was trained on."""

    name: str
    hub_id: str | None  # where it came from the hub
    rows: int | None  # null where it was deleted since
    fingerprint: str
    steps: list[str]  # of the recipe that made it of the one before, in words


class CardProbe(TypedDict):
    """What the model knows of general questions or texts."""

    probe: str
    n: int
    loss: Estimate
    accuracy: Estimate | None  # of questions


class CardVerdict(TypedDict):
    """What the verdict of its run says."""

    headline: str
    sentences: list[str]
    gain: Estimate | None
    gain_unit: str
    forgetting: list[str]  # sentences; empty where it was not measured
    memorised: list[str]


class CardEvaluation(TypedDict):
    """An evaluation of the version."""

    name: str
    dataset: str
    hub_id: str | None  # of the data set, where it came from the hub
    part: str
    n: int
    figures: list[ListedFigure]
    units: dict[str, str]  # metric -> its unit
    probes: list[CardProbe]


class BaseCard(TypedDict):
    """What the card of the base model states, and nobody else may make up."""

    license: str | None  # an identifier of the hub, as apache-2.0 or other
    license_name: str | None  # of the license `other`
    license_link: str | None
    languages: list[str]


class TrainedModel(TypedDict):
    """Of the run that a model came from; null or empty where that is not known."""

    run: str | None  # its name; null for an imported folder
    run_present: bool  # it was not deleted since
    checkpoint: str | None
    config: dict[str, Any] | None  # store.config.training.train_config.TrainConfig: what was asked for
    course: TrainedCourse | None  # what training did
    continued_from: str  # name of the run that it went on from, or ""
    mixed: str  # of a mix: the sentence that says of what
    data: list[CardData]  # the first version first
    verdict: CardVerdict | None
    trainable_parameters: int | None
    total_parameters: int | None
    device: str | None
    versions: dict[str, str]  # of libraries
    seconds: float | None  # that the run took
    energy_wh: float | None  # null where the machine does not count it


class ModelCard(TrainedModel):
    """Of one version, or of what a run left."""

    reference: str  # NAME@3; of a run its name
    registered: bool  # what stands below of people is of versions alone
    intended_use: str  # as a person wrote it; empty where nobody did
    notes: str
    base: BaseReference | None  # null for an imported whole model
    base_card: BaseCard | None  # null until an export has looked
    adapter: bool
    fingerprint: str  # of the version's files; empty for a run
    created_at: str  # ISO 8601, UTC
    created_by: str
    aliases: list[str]
    evaluations: list[CardEvaluation]
    bias: BiasReport | None
    bias_against: str  # the model that the bias check held it against; empty where there is none
    approvals: list[str]  # sentences: who moved which alias here, when, why
