"""A classifier on held-out rows: how good it is, against what, and what it confuses."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.figures.estimate import Estimate

JudgingSplit = Literal["test", "validation"]  # whose rows judge a run


class ClassRates(TypedDict):
    """One class: n of recall are its rows, of precision those predicted as it, of F1 both together."""

    label: str
    n: int
    predicted: int
    precision: Estimate | None  # null where it was never predicted
    recall: Estimate | None  # null where no row is of it
    f1: Estimate


class CalibrationError(TypedDict):
    """Expected calibration error, and what chance alone gives in 19 of 20 cases."""

    value: float
    null: float
    n: int


class CalibrationBin(TypedDict):
    """Rows of about equal confidence: how sure the model is, and the share that is right."""

    confidence: float
    accuracy: float
    low: float | None
    high: float | None
    n: int


class CalibrationFigures(TypedDict):
    """Whether a classifier is as often right as it is sure."""

    ece: CalibrationError
    brier: Estimate  # squared distance from the truth over all classes, 0 to 2
    temperature: Estimate | None  # of the lowest loss; null where the rows don't bound it
    overconfident: bool
    bins: list[CalibrationBin]


class ClassAverages(TypedDict):
    """The figures of a classifier over all classes."""

    n: int
    accuracy: Estimate
    f1_macro: Estimate
    f1_weighted: Estimate


class ClassFigures(ClassAverages):
    """The figures of a classifier, class by class."""

    class_count: int
    classes: list[ClassRates]  # 200 largest
    confusion: list[tuple[str, str, int]]  # label, predicted, rows; 400 largest
    pair_count: int  # cells that occur
    calibration: NotRequired[CalibrationFigures]


class MajorityClass(TypedDict):
    """The most frequent class of the training rows."""

    label: str
    share: float
    n: int


class ClassModels(TypedDict):
    """Figures of the tuned model, of always the most frequent class, and of the untuned model that was asked
    for the label."""

    tuned: ClassFigures
    majority: ClassAverages
    prompted: NotRequired[ClassAverages]  # where it can be asked


class ConfusedClasses(TypedDict):
    """Two classes that are taken for each other."""

    labels: list[str]
    rows: int
    forth: int  # the first taken for the second
    back: int


class Classification(TypedDict):
    """A run as a classifier of held-out rows."""

    split: JudgingSplit
    class_count: int
    majority: MajorityClass
    unseen: int  # held-out rows with a label that training doesn't know
    models: ClassModels
    over_prompted: Estimate | None  # share of rows more that are right than when the untuned model is asked
    confused: list[ConfusedClasses]
