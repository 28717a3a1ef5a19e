"""The classes of a run: how well each is told, which are taken for each other, and how sure the model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from engine.diagnostics import phrasing
from pages.classes import class_charts
from pages.classes.class_row_table import draw_examples
from pages.run_parts import run_reads
from pages.run_parts.class_numbers import draw_models
from pages.shared import wording
from pages.shared.session import guarded, plain
from pages.shared.traces import PLOT
from store.documents.figures.estimate import Estimate
from store.documents.tables.run import Run
from store.documents.verdicts.classification import (
    CalibrationBin,
    CalibrationError,
    CalibrationFigures,
    ClassFigures,
    ClassRates,
    ConfusedClasses,
)

LISTED = 10  # rows of a table before it scrolls


@dataclass(frozen=True)
class DrawnCalibration:
    """Whether a classifier is as often right as it is sure; of an evaluation some of it may be missing."""

    error: CalibrationError
    bins: Sequence[CalibrationBin]
    brier: Estimate | None
    temperature: Estimate | None
    overconfident: bool

    @classmethod
    def of(cls, figures: CalibrationFigures) -> DrawnCalibration:
        """That of a run."""
        return cls(
            figures["ece"],
            figures["bins"],
            figures["brier"],
            figures["temperature"],
            figures["overconfident"],
        )


def draw_classes(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        run = run_reads.run(run_id)
        classification = run["verdict"] and run["verdict"]["classification"]
        if not classification:
            st.caption("The classes come with the verdict.")
            return
        tuned = classification["models"]["tuned"]
        draw_models(classification)
        draw_table(tuned)
        left, right = st.columns([3, 2], gap="large")
        with left:
            draw_confusion(tuned, classification["confused"])
        with right:
            if "calibration" in tuned:
                draw_calibration(DrawnCalibration.of(tuned["calibration"]))
        if classification["confused"]:
            _draw_confused(run, classification["confused"])


def draw_table(tuned: ClassFigures) -> None:
    """A line a class, the worst told first."""
    st.markdown("**Each class**, the worst told first")
    rows = sorted(tuned["classes"], key=lambda row: (row["f1"]["value"], -row["n"]))
    st.dataframe(
        [_class(row) for row in rows],
        hide_index=True,
        placeholder="–",
        height="content" if len(rows) <= LISTED else 35 * (LISTED + 1) + 3,
        column_config={
            "Class": st.column_config.TextColumn(pinned=True, width="medium"),
            "F1": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.2f", width="small"),
            # numbers, so that a click on the heading sorts 2.1% before 10%
            "Recall ↑": st.column_config.NumberColumn(format="%.1f%%"),
            "Precision ↑": st.column_config.NumberColumn(format="%.1f%%"),
        },
        alt="Precision, recall and F1 of each class",
    )
    listed, count = len(tuned["classes"]), tuned["class_count"]
    cut = f" The {listed:,} largest of {count:,} classes." if listed < count else ""
    st.caption(
        "Of the rows of a class (n), recall is the share that is found; of the rows predicted as it,"
        f" precision is the share that is right. Wilson's 95% intervals.{cut}"
    )


def _class(row: ClassRates) -> dict[str, str | float | None]:
    return {
        "Class": row["label"],
        "F1": row["f1"]["value"],
        "F1, 95%": phrasing.interval(row["f1"]["low"], row["f1"]["high"], 2),
        **_share("Recall", row["recall"]),
        "n": row["n"],
        **_share("Precision", row["precision"]),
        "Predicted": row["predicted"],
    }


def _share(name: str, interval: Estimate | None) -> dict[str, float | str | None]:
    """Two cells: the share in per cent, and between what it lies; nothing where there is no row to count."""
    if not interval:
        return {f"{name} ↑": None, f"{name}, 95%": "–"}
    bounds = phrasing.interval(*wording.ends(interval, 100))
    return {f"{name} ↑": 100 * interval["value"], f"{name}, 95%": f"{bounds}%"}


def draw_confusion(tuned: ClassFigures, confused: Sequence[ConfusedClasses], key: str = "confusion") -> None:
    """A matrix, or the pairs that are confused most where it would have too many classes."""
    st.markdown("**What is taken for what**")
    labels = sorted({label for *both, _ in tuned["confusion"] for label in both})
    if len(labels) > class_charts.MOST or tuned["pair_count"] > len(tuned["confusion"]):
        st.caption(f"{tuned['class_count']:,} classes are too many for a matrix: the most confused pairs.")
        _pairs_table(confused)
        return
    figure = class_charts.confusion_matrix(tuned["confusion"], labels)
    alt = f"Confusion matrix of {len(labels)} classes on {tuned['n']:,} rows"
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)
    st.caption(f"Rows, n {tuned['n']:,}; the stronger the colour, the larger the share of the true class.")


def _pairs_table(pairs: Sequence[ConfusedClasses]) -> None:
    rows = [
        {
            "True class": pair["labels"][0],
            "taken for": pair["labels"][1],
            "Rows": pair["forth"],
            "the other way": pair["back"],
        }
        for pair in pairs
    ]
    if rows:
        st.dataframe(rows, hide_index=True, alt="Pairs of classes that are confused most")
    else:
        st.caption("No row was taken for another class.")


def draw_calibration(calibration: DrawnCalibration, key: str = "reliability") -> None:
    """How often right against how sure, and what that comes to."""
    st.markdown("**Is it as often right as it is sure?**")
    figure = class_charts.reliability_chart(calibration.bins)
    st.plotly_chart(figure, key=key, config=PLOT, alt="Share of rows right by how sure the model was")
    st.caption(calibration_words(calibration))


def calibration_words(calibration: DrawnCalibration) -> str:
    """Calibration error against chance, Brier score and temperature, as sentences."""
    error, brier, heat = calibration.error, calibration.brier, calibration.temperature
    sentences = (
        f"Calibration error {error['value']:.1%} over {len(calibration.bins)} bins of equal size, n"
        f" {error['n']:,}; a perfectly calibrated model would show up to {error['null']:.1%} by chance."
    )
    if brier is not None:
        sentences += f" Brier score {wording.estimate(brier, sign=False)}."
    if heat is None:
        return f"{sentences} A temperature can't be fitted: too few rows are wrong."
    word = "too sure" if calibration.overconfident else "not too sure"
    if not calibration.overconfident and heat["high"] is not None and heat["high"] < 1:
        word = "less sure than it could be"
    return f"{sentences} Fitted temperature {wording.estimate(heat, sign=False)}: {word}."


def _draw_confused(run: Run, pairs: Sequence[ConfusedClasses]) -> None:
    """Rows of a pair that is confused, chosen from the most confused."""
    st.markdown("**Most confused, with rows**")
    names = {f"{a} / {b}": (a, b) for a, b in (pair["labels"] for pair in pairs)}
    counts = {name: pair["rows"] for name, pair in zip(names, pairs, strict=True)}
    chosen = st.selectbox(
        "Pair of classes",
        list(names),
        key="class-pair",
        format_func=lambda name: f"{name}: {phrasing.plural(counts[name], 'row')}",
        label_visibility="collapsed",
    )
    if chosen:
        first, second = names[chosen]
        for label, predicted in ((first, second), (second, first)):
            draw_examples(run, label, predicted, plain(f"{label} taken for {predicted}"))
