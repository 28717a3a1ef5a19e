"""The metrics of an evaluation as one table, from which form, documentation, engine and tests are drawn.

A metric is a number under its name in the store, `eval/NAME`. It says how it comes about (`estimator`: a mean
of row scores, or a figure of the whole set), what it needs of a row, which options it has
(`metrics_config.py`), and for which tasks it is offered by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["rows", "corpus", "classes", "losses", "whole"]
Need = Literal[
    "prediction", "reference", "prompt", "label", "losses", "bytes", "probabilities", "choices"
]  # fmt: skip
KIND_TITLES: dict[Kind, str] = {
    "rows": "mean over rows",
    "corpus": "of all rows together; rows have one of their own too",
    "classes": "over classes; a row is right or wrong",
    "losses": "of all tokens together; rows have one of their own too",
    "whole": "of all rows together",
}
MULTIPLE_CHOICE = "multiple_choice"  # of store.data.formats: rows whose choices can be scored
TEXT_LABEL = "text_label"
SHARE = (0.0, 1.0)
HUNDRED = (0.0, 100.0)


@dataclass(frozen=True)
class Metric:
    """`means` says what the number is. bounds: between which it lies (None: no bound). family: metrics that
    one pass over the rows measures together. library: what it is computed with, where that is not our own."""

    title: str
    family: str
    means: str
    unit: str
    kind: Kind
    needs: tuple[Need, ...]
    better: Literal["higher", "lower"] = "higher"
    bounds: tuple[float | None, float | None] = SHARE
    tasks: tuple[str, ...] = ()
    library: str = ""


ANSWER: tuple[Need, ...] = ("prediction", "reference")
CLASS: tuple[Need, ...] = ("prediction", "label")


def _make_class_metric(title: str, means: str, *, offered: bool = False) -> Metric:
    tasks = ("classification",) if offered else ()
    return Metric(title, "classes", means, "share", "classes", CLASS, tasks=tasks)


METRICS: dict[str, Metric] = {
    "exact_match": Metric(
        "Exact match", "exact_match",
        "The answer is the reference, white space at both ends apart; with `normalise` case, punctuation and"
        " articles apart too",
        "share of rows", "rows", ANSWER, tasks=("sft",),
    ),
    "token_f1": Metric(
        "Token F1", "token_f1",
        "Words that answer and reference share, as F1, after case, punctuation and articles are taken off"
        " (Rajpurkar et al. 2016)",
        "share", "rows", ANSWER, tasks=("sft",),
    ),
    "bleu": Metric(
        "BLEU", "bleu", "n-grams of up to 4 words that the references have too (Papineni et al. 2002)",
        "0 to 100", "corpus", ANSWER, bounds=HUNDRED, library="sacrebleu",
    ),
    "chrf": Metric(
        "chrF", "chrf",
        "n-grams of up to 6 characters shared with the references (Popović 2015); works in every language",
        "0 to 100", "corpus", ANSWER, bounds=HUNDRED, tasks=("sft",), library="sacrebleu",
    ),
    "rouge1": Metric(
        "ROUGE-1", "rouge", "Words shared with the reference, as F1 (Lin 2004)", "share", "rows", ANSWER,
        library="rouge-score",
    ),
    "rouge2": Metric(
        "ROUGE-2", "rouge", "Pairs of words shared with the reference, as F1 (Lin 2004)", "share", "rows",
        ANSWER, library="rouge-score",
    ),
    "rougeL": Metric(
        "ROUGE-L", "rouge", "Longest sequence of words shared with the reference, as F1 (Lin 2004)", "share",
        "rows", ANSWER, tasks=("sft",), library="rouge-score",
    ),
    "accuracy": _make_class_metric("Accuracy", "Rows whose label the answer names", offered=True),
    "f1_macro": _make_class_metric("F1, macro", "F1 of each class, every class counted the same",
        offered=True),
    "f1_micro": _make_class_metric("F1, micro",
        "F1 of all rows together; accuracy where every answer is a label"),
    "f1_weighted": _make_class_metric("F1, weighted", "F1 of each class, counted by its rows", offered=True),
    "precision_macro": _make_class_metric("Precision, macro",
        "Share right of those called a class, over classes"),
    "precision_micro": _make_class_metric("Precision, micro",
        "Share right of the rows whose answer is a label"),
    "precision_weighted": _make_class_metric(
        "Precision, weighted", "Share right of those called a class, counted by the rows of the class"
    ),
    "recall_macro": _make_class_metric("Recall, macro",
        "Share found of each class, every class counted the same"),
    "recall_micro": _make_class_metric("Recall, micro", "Share found of all rows"),
    "recall_weighted": _make_class_metric("Recall, weighted",
        "Share found of each class, counted by its rows"),
    "choice_accuracy": Metric(
        "Choices right", "choices",
        "Rows of multiple choice whose right choice has the highest sum of its tokens' log-probabilities",
        "share of rows", "rows", ("choices",),
    ),
    "choice_accuracy_per_byte": Metric(
        "Choices right, by byte", "choices",
        "The same, each sum divided by the bytes of the choice: a long choice is no worse for its length",
        "share of rows", "rows", ("choices",),
    ),
    "ece": Metric(
        "Calibration error (ECE)", "calibration",
        "Gap between how sure and how often right, over 15 bins of equal size, beside what chance gives",
        "share", "whole", ("probabilities", "label"), better="lower", tasks=("classification",),
    ),
    "brier": Metric(
        "Brier score", "calibration", "Squared distance of the probabilities from the truth", "0 to 2",
        "rows", ("probabilities", "label"), better="lower", bounds=(0.0, 2.0), tasks=("classification",),
    ),
    "temperature": Metric(
        "Temperature", "calibration",
        "What the logits must be divided by to lose least; above 1 the model is too sure", "ratio", "whole",
        ("probabilities", "label"), better="lower", bounds=(0.0, None),
    ),
    "perplexity": Metric(
        "Perplexity", "losses", "exp of the loss a token, over all tokens of the references", "tokens",
        "losses", ("losses",), better="lower", bounds=(1.0, None), tasks=("sft",),
    ),
    "bits_per_byte": Metric(
        "Bits per byte", "losses",
        "Loss in bits over the bytes of the references: comparable between tokenizers", "bits a byte",
        "losses", ("losses", "bytes"), better="lower", bounds=(0.0, None),
    ),
    "valid_json": Metric(
        "Valid JSON", "valid_json", "The whole answer is JSON; with `fenced` in a code fence too",
        "share of rows", "rows", ("prediction",),
    ),
    "json_schema": Metric(
        "Matches the schema", "json_schema", "The answer is JSON that the schema accepts (draft 2020-12)",
        "share of rows", "rows", ("prediction",), library="jsonschema",
    ),
    "regex": Metric(
        "Matches the pattern", "regex",
        "The regular expression (RE2) is found in the answer; with `whole` it is the answer",
        "share of rows", "rows", ("prediction",), library="pyarrow",
    ),
    "constraints": Metric(
        "Follows the constraints", "constraints",
        "The answer keeps all of the listed constraints; the share that keeps each stands beside it",
        "share of rows", "rows", ("prediction",),
    ),
    "judge": Metric(
        "Judge", "judge", "A grade that a language model gives by a rubric", "grade", "rows",
        ("prompt", "prediction"), bounds=(None, None),
    ),
    "own": Metric(
        "Own metric", "own", "A Python file in the home folder's `metrics`", "", "rows", ("prediction",),
        bounds=(None, None),
    ),
}  # fmt: skip


def list_offered_metrics(task: str) -> list[str]:
    """The metrics that are measured for a task where nothing else is asked for."""
    return [name for name, metric in METRICS.items() if task in metric.tasks]


def list_default_metrics(*, head: bool, labelled: bool, choosing: bool) -> list[str]:
    """What an evaluation measures where nothing else is asked for. head: the model classifies; labelled: the
    rows have labels; choosing: they are multiple choice, which a model that writes is asked by scoring each
    choice."""
    if head:
        return list_offered_metrics("classification")
    if choosing:
        return ["choice_accuracy", "choice_accuracy_per_byte", "perplexity"]
    return [*list_offered_metrics("sft"), *(("accuracy", "f1_macro") if labelled else ())]


def choose_comparison_metric(*, task: str, format: str) -> str:
    """The metric by which two models are held against each other where nobody chose one; format: of the rows
    that they were trained on. Of answers in free words it is how likely the right ones are: hardly any comes
    word for word, so that by exact match two models would both have nothing right, and neither be worse. A
    label is the answer in rows of text and label alone; elsewhere it stands beside it."""
    if format == MULTIPLE_CHOICE:
        return "choice_accuracy"
    return "accuracy" if task == "classification" or format == TEXT_LABEL else "bits_per_byte"
