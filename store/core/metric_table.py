"""Table of all evaluation metrics, the source for form, documentation, engine and tests.

A metric is a number with the name `eval/NAME` in the store. The table gives its estimator (a mean of row
scores, or a figure of the whole set), what it needs of a row, its options (`metrics_config.py`), and the
tasks for which it is a default.
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
MULTIPLE_CHOICE = "multiple_choice"  # format in store.data.formats of rows whose choices can be scored
TEXT_LABEL = "text_label"
SHARE = (0.0, 1.0)
HUNDRED = (0.0, 100.0)


@dataclass(frozen=True)
class Metric:
    """A metric. `means` describes the number. bounds: its range (None: unbounded). family: metrics computed
    together in one pass over the rows. library: the library that computes it, if not our own code.
    """

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
        "The answer equals the reference, ignoring leading and trailing white space; with `normalise` also"
        " case, punctuation and articles",
        "share of rows", "rows", ANSWER, tasks=("sft",),
    ),
    "token_f1": Metric(
        "Token F1", "token_f1",
        "F1 of the words shared by answer and reference, ignoring case, punctuation and articles (Rajpurkar"
        " et al. 2016)",
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
        "The same, normalized by the bytes of the choice, so that long choices have no disadvantage",
        "share of rows", "rows", ("choices",),
    ),
    "ece": Metric(
        "Calibration error (ECE)", "calibration",
        "Gap between confidence and accuracy over 15 bins of equal size, compared with chance",
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
        "The answer meets all listed constraints; also reported per constraint",
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
    """Return the default metrics of a task."""
    return [name for name, metric in METRICS.items() if task in metric.tasks]


def list_default_metrics(*, head: bool, labelled: bool, choosing: bool) -> list[str]:
    """Return the default metrics of an evaluation. head: the model is a classifier; labelled: the rows have
    labels; choosing: the rows are multiple choice, for which a generative model is scored on each choice.
    """
    if head:
        return list_offered_metrics("classification")
    if choosing:
        return ["choice_accuracy", "choice_accuracy_per_byte", "perplexity"]
    return [*list_offered_metrics("sft"), *(("accuracy", "f1_macro") if labelled else ())]


def choose_comparison_metric(*, task: str, format: str) -> str:
    """Return the default metric for comparing two models. format: of the rows that they were trained on. For
    free-text responses it is the likelihood of the references: hardly any response matches one exactly, so
    with exact match both models would score zero and neither would be worse. The label is the response
    only in rows that consist of text and label; elsewhere it is an additional column.
    """
    if format == MULTIPLE_CHOICE:
        return "choice_accuracy"
    return "accuracy" if task == "classification" or format == TEXT_LABEL else "bits_per_byte"
