"""What a model card is written from: everything that is known of a version, gathered by the engine."""

from __future__ import annotations

from typing import Any, TypedDict

from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import ListedFigure
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
    part: str
    n: int
    figures: list[ListedFigure]
    units: dict[str, str]  # metric -> its unit
    probes: list[CardProbe]


class ModelCard(TypedDict):
    """Of one version."""

    reference: str  # NAME@3
    name: str
    intended_use: str  # as a person wrote it; empty where nobody did
    notes: str
    base_model: str | None
    adapter: bool
    fingerprint: str
    created_at: str  # ISO 8601, UTC
    created_by: str
    aliases: list[str]
    run: str | None  # its name; null for an imported folder
    run_present: bool  # it was not deleted since
    checkpoint: str | None
    config: dict[str, Any] | None  # store.config.training.train_config.TrainConfig; null where nobody knows
    data: list[CardData]  # the first version first
    verdict: CardVerdict | None
    trainable_parameters: int | None
    total_parameters: int | None
    device: str | None
    versions: dict[str, str]  # of libraries
    seconds: float | None  # that the run took
    energy_wh: float | None  # null where the machine does not count it
    evaluations: list[CardEvaluation]
    bias: BiasReport | None
    bias_against: str  # the model that the bias check held it against; empty where there is none
    approvals: list[str]  # sentences: who moved which alias here, when, why
