"""A run beside the original that it repeats: settings, rows, the losses step by step, and the final figures.

Losses of the same step are the same where they are at most LOSS_TOLERANCE nats apart: that is what another
order of summing makes on another processor, and far less than another seed or learning rate does. Final
figures are held by their equivalence test (`reproduced`): the same are those within their margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from engine.diagnostics.phrasing import measured, plural
from store.documents.models.saved_model import CourseEnd
from store.documents.runs.bundle import BesideOriginal, ComparedLine, ReproducedFigure
from store.documents.tables.job_order import LossCurve, RunWithCurves

LOSS_TOLERANCE = 0.001  # nats a token at one step
OWN = {  # what a repetition is called, and where it finds things here
    "name", "notes", "parent", "dataset", "model", "replay_dataset", "probe_datasets",
}  # fmt: skip
CURVES: tuple[tuple[Literal["train/loss", "eval/loss"], str], ...] = (
    ("train/loss", "Training loss by step"),
    ("eval/loss", "Validation loss by validation"),
)
SAME = {"same": True, "within": True, "outside": False, "cant_tell": None}
MAX_VALUE = 60  # characters of a setting that are shown


def beside(
    first: RunWithCurves,
    second: RunWithCurves,
    figures: Sequence[ReproducedFigure],
    *,
    split_same: bool | None,
) -> BesideOriginal:
    """split_same: whether each row is in the same part; None where a split is gone."""
    lines = [
        *_settings(first["config"], second["config"]),
        *_facts(first, second),
        _split(split_same),
        *(_curve(title, first["curves"][name], second["curves"][name]) for name, title in CURVES),
        *map(_figure, figures),
    ]
    return {
        "run_id": first["run_id"],
        "name": first["name"],
        "sentence": _sentence(first["name"], lines),
        "lines": lines,
    }


def _line(what: str, first: str, second: str, same: bool | None, detail: str = "") -> ComparedLine:
    return {"what": what, "first": first, "second": second, "same": same, "detail": detail}


def _split(same: bool | None) -> ComparedLine:
    if same is None:
        return _line("Split row by row", "–", "–", None, "The split of one of the two is gone.")
    return _line("Split row by row", "as dealt", "as dealt" if same else "dealt otherwise", same)


def _settings(first: dict[str, Any], second: dict[str, Any]) -> Iterator[ComparedLine]:
    """One line of all that are the same, and one of each that isn't."""
    names = [name for name in dict.fromkeys([*first, *second]) if name not in OWN]
    differing = [name for name in names if first.get(name) != second.get(name)]
    if same := len(names) - len(differing):
        yield _line("Settings", plural(same, "setting"), plural(same, "setting"), True)
    for name in differing:
        yield _line(f"Setting {name}", _words(first.get(name)), _words(second.get(name)), False)


def _facts(first: RunWithCurves, second: RunWithCurves) -> Iterator[ComparedLine]:
    ours, theirs = first["facts"], second["facts"]
    for title, key in (("Rows by fingerprint", "data_fingerprint"), ("Precision", "dtype")):
        if key in ours and key in theirs:
            same = ours[key] == theirs[key]
            yield _line(title, _words(ours[key])[:12], _words(theirs[key])[:12], same)
    for title, key in (("Rows of each part", "rows"), ("Base model", "base")):
        if key in ours and key in theirs:
            same = ours[key] == theirs[key]
            yield _line(title, _named(ours[key]), _named(theirs[key]), same)
    before, now = _steps(ours), _steps(theirs)
    if before and now:
        reasons = f"{before.reason} and {now.reason}".replace("_", " ")
        ended = "" if before.reason == now.reason else f"They ended for other reasons: {reasons}."
        yield _line("Steps", before.in_words(), now.in_words(), before == now, ended)


class _RunLength(NamedTuple):
    """How far a run went, and why no further; kept: the step whose weights it has."""

    kept: int
    last: int
    reason: CourseEnd

    def in_words(self) -> str:
        kept = "" if self.kept == self.last else f", the weights of step {self.kept:,}"
        return f"{plural(self.last, 'step')}{kept}"


def _steps(facts: dict[str, Any]) -> _RunLength | None:
    """Runs from before have no `course`, and say it where they stopped."""
    if course := facts.get("course"):
        return _RunLength(course["step"], course["last_step"], course["reason"])
    if stopped := facts.get("stopped"):
        last, kept = stopped["step"], stopped["restored_step"]
        return _RunLength(last if kept is None else kept, last, stopped["reason"])
    return None


def _named(value: dict[str, Any]) -> str:
    """Of rows "train 60, test 10"; of a base its name and commit."""
    if "name" in value:
        return f"{value['name']} {(value.get('revision') or '')[:12]}".strip()
    return ", ".join(f"{name} {count:,}" for name, count in value.items())


def _words(value: Any) -> str:
    text = "not set" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _curve(title: str, first: LossCurve, second: LossCurve) -> ComparedLine:
    """Step by step; detail: the first step at which they part, and where they are furthest apart."""
    ends = (_end(first), _end(second))
    if not first["steps"] or not second["steps"]:
        return _line(title, *ends, None, "One of the two has no such losses.")
    if first["steps"] != second["steps"]:
        return _line(title, *ends, False, "They were measured at other steps.")
    triples = zip(first["steps"], first["values"], second["values"], strict=True)
    apart = [(step, _distance(a, b)) for step, a, b in triples]
    far_step, furthest = max(apart, key=lambda pair: pair[1])
    if furthest == 0:
        return _line(title, *ends, True, "The same to the last digit at every step.")
    beyond = next((step for step, distance in apart if distance > LOSS_TOLERANCE), None)
    most = "not finite in one of the two" if furthest == float("inf") else f"{furthest:.2g} nats apart"
    if beyond is None:
        detail = f"At most {most} (step {far_step:,}), within {LOSS_TOLERANCE:g}."
        return _line(title, *ends, True, detail)
    detail = f"More than {LOSS_TOLERANCE:g} nats apart from step {beyond:,} on; at step {far_step:,} {most}."
    return _line(title, *ends, False, detail)


def _distance(first: float | None, second: float | None) -> float:
    if first is None or second is None:
        return 0.0 if first is second else float("inf")
    return abs(first - second)


def _end(curve: LossCurve) -> str:
    if not curve["steps"]:
        return "–"
    last = curve["values"][-1]
    return f"{len(curve['steps']):,}, the last {'not finite' if last is None else f'{last:.4f}'}"


def _figure(figure: ReproducedFigure) -> ComparedLine:
    title = f"{figure['title'][:1].upper()}{figure['title'][1:]}, {figure['unit']}"
    first, second = (measured(each) if each else "–" for each in (figure["first"], figure["second"]))
    same = SAME[figure["came"]]
    return _line(title, first, second, same, "To the last digit." if figure["came"] == "same" else "")


def _sentence(name: str, lines: Sequence[ComparedLine]) -> str:
    """What a reader in a hurry takes with them."""
    differing = [line["what"] for line in lines if line["same"] is False]
    untold = sum(line["same"] is None for line in lines)
    rest = f" Of {untold:,} it can't be told." if untold else ""
    if not differing:
        count = f"{len(lines) - untold:,} of {len(lines):,} points"
        return f"The same as the original run {name} in {count}.{rest}"
    named = "; ".join(differing[:3]) + ("; …" if len(differing) > 3 else "")
    count = f"{len(differing):,} of {len(lines):,} points"
    return f"It differs from the original run {name} in {count}: {named}.{rest}"
