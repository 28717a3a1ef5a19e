"""Findings: every rule from its figures, the edges of the bands, samples, and the order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.evaluation.verdicts.data_findings import LEVELS, RULES, Finding, find_findings, list_checked
from store.data.cleaning import Recipe
from store.data.filters import Filter
from store.data.signals import GROUP_OF, GROUPS, SIGNALS

ROWS = 1000
JUDGED = [signal for signal in SIGNALS.values() if signal.healthy is not None]


def figures_of(column: str, share: float, n: int = ROWS) -> dict[str, Any]:
    """Figures in which that share of `n` rows was found (or the median is `share`)."""
    signal, count = SIGNALS[column], round(share * n)
    if signal.type == "flag":
        return {"n": n, "flagged": count}
    if signal.type == "group":
        groups = max(1, count // 2) if count else 0
        return {"n": n, "groups": groups, "rows": count + groups, "extra": count}
    return {"n": n, "min": 0, "mean": 1, "median": share, "p95": 2, "max": 3, "positive": count}


def _measure(figures: dict[str, Any], options: dict[str, Any] | None = None, outdated: bool = False) -> Any:
    return SimpleNamespace(figures=figures, options=options or {}, outdated=outdated)


def findings_of(
    columns: dict[str, float], n: int = ROWS, options: dict[str, Any] | None = None
) -> list[Finding]:
    measured: dict[str, Any] = {}
    for column, share in columns.items():
        group = measured.setdefault(GROUP_OF[column], _measure({}, options))
        group.figures[column] = figures_of(column, share, n)
    return find_findings(ROWS, measured, GROUPS)


@pytest.mark.parametrize("column", [signal.column for signal in JUDGED])
def test_every_signal_with_a_band_has_a_finding_just_outside_and_none_at_its_edge(column: str) -> None:
    (low, high) = SIGNALS[column].healthy or (None, None)
    assert low is None
    assert high is not None
    assert findings_of({column: high}) == []
    (finding,) = findings_of({column: high + 0.002})
    assert finding.column == column
    assert finding.why
    assert finding.severity_reason
    assert Filter.parse(finding.where)


@pytest.mark.parametrize("column", sorted(RULES))
def test_every_rule_belongs_to_a_signal_and_its_fixes_are_valid_recipes(column: str) -> None:
    assert SIGNALS[column].healthy is not None
    (finding,) = findings_of(
        {column: 2.0 if column == "ifd" else 0.5}, options={"max_length": 512, "model": "m"}
    )
    assert finding.fixes or column == "references"  # a kind of data is not mended
    for fix in finding.fixes:
        assert fix.label
        assert Recipe.parse({"steps": list(fix.steps)}).steps


def test_signals_without_a_band_are_never_a_finding() -> None:
    assert findings_of({"person": 0.9, "characters": 0.9}) == []


def test_near_duplicates_say_how_many_in_how_many_groups() -> None:
    measured = {
        "duplicates": _measure(
            {"near_group": {"n": 2211, "groups": 180, "rows": 592, "extra": 412}}, {"threshold": 0.8}
        )
    }
    (finding,) = find_findings(2211, measured, GROUPS)
    assert finding.title == "412 near duplicates in 180 groups"
    assert finding.measure == "19% of 2,211 rows"
    assert finding.rows == 412
    assert finding.severity == "notable"  # beyond a tenth of the rows is what makes it a finding at all
    assert finding.fixes[0].label == "Keep one of each"
    assert finding.fixes[0].steps == ({"step": "drop_duplicates", "kind": "near", "threshold": 0.8},)
    # A group is named after its first row, which may be row 0: "is not empty" would miss it.
    assert finding.where == {"conditions": [{"column": "near_group", "op": "is not", "value": None}]}


def test_one_row_is_not_said_to_be_rows() -> None:
    (finding,) = findings_of({"html": 0.5}, n=2)
    assert finding.title == "1 row with HTML"


def test_the_fixes_are_those_that_the_finding_calls_for() -> None:
    def first(column: str, share: float = 0.5) -> dict[str, Any]:
        options = {"max_length": 512, "model": "tiny"}
        return findings_of({column: share}, options=options)[0].fixes[0].steps[0]

    assert first("exact_group") == {"step": "drop_duplicates", "kind": "exact"}
    assert first("conflict") == {"step": "drop_duplicates", "kind": "conflict", "keep": "most_frequent"}
    assert first("encoding_damage") == {"step": "fix_encoding"}
    assert first("html") == {"step": "strip", "html": True}
    assert first("secret") == {"step": "redact", "kinds": ["secret"]}
    assert first("email") == {"step": "redact", "kinds": ["email"]}
    assert first("label_suspect") == {"step": "label_errors", "action": "drop"}
    capped = {"step": "cap_length", "most": 512, "unit": "tokens", "model": "tiny", "action": "drop"}
    assert first("cut") == capped
    for column in ("refusal", "empty_answer", "echo", "truncated"):
        step = first(column)
        assert (step["step"], step["action"]) == ("filter", "drop")
        assert step["where"]["conditions"] == [{"column": column, "op": "is", "value": True}]


def test_cut_rows_have_no_fix_where_the_length_is_not_known() -> None:
    (finding,) = findings_of({"cut": 0.5})
    assert finding.fixes == ()


def test_a_sample_gives_an_interval_and_a_whole_set_none() -> None:
    (whole,) = findings_of({"truncated": 0.08})
    assert "between" not in whole.measure
    (part,) = findings_of({"truncated": 0.08}, n=100)
    # Wilson's interval of 8 in 100: 4.1% to 15%
    assert part.measure == "8.0% of 100 rows measured of 1,000; between 4.1% and 15% of all (95%)"
    assert part.share is not None
    assert part.share.n == 100
    assert part.severity == "minor"  # a level down: the interval reaches into the healthy band
    assert "chance" in part.severity_reason
    assert whole.severity == "notable"


def test_one_secret_in_a_sample_is_not_chance() -> None:
    (finding,) = findings_of({"secret": 0.01}, n=100)
    assert finding.severity == "serious"


def test_the_most_serious_come_first_and_then_the_most_rows() -> None:
    order = [
        f.column
        for f in findings_of({"html": 0.05, "email": 0.01, "secret": 0.02, "echo": 0.05, "refusal": 0.5})
    ]
    assert order == ["secret", "email", "echo", "html", "refusal"]
    widespread = findings_of({"html": 0.2, "echo": 0.05})
    assert [(f.column, f.severity) for f in widespread] == [("html", "notable"), ("echo", "notable")]
    assert "tenth" in widespread[0].severity_reason
    assert [f.column for f in findings_of({"near_group": 0.6, "exact_group": 0.2})] == [
        "exact_group",
        "near_group",
    ]


def test_a_guess_by_wording_is_to_be_looked_at_however_many_there_are() -> None:
    (finding,) = findings_of({"refusal": 0.9})
    assert finding.severity == "look"
    assert finding.title == "900 rows whose answer may be a refusal"
    assert "check them" in finding.why


def test_a_number_is_judged_by_its_median() -> None:
    (finding,) = findings_of({"repetition": 0.25})
    assert finding.title == "Repetition: half of the rows are at 25% or above; at most 10% is healthy"
    assert finding.share is None
    assert finding.measure == "Median of 1,000 rows"


def test_nothing_measured_finds_nothing_and_says_what_is_missing() -> None:
    assert find_findings(ROWS, {}, GROUPS) == []
    state = list_checked({}, GROUPS)
    assert state.signals == ()
    assert state.missing == tuple(group.title for group in GROUPS.values())


def test_what_was_checked_is_named_and_older_measures_too() -> None:
    measured = {"duplicates": _measure({"exact_group": figures_of("exact_group", 0)}, outdated=True)}
    state = list_checked(measured, GROUPS)
    assert state.signals == ("Exact duplicates",)
    assert "Duplicates" not in state.missing
    measured["duplicates"].figures = {"exact_group": figures_of("exact_group", 0.5)}
    assert find_findings(ROWS, measured, GROUPS) == []


def test_rows_that_could_not_be_measured_are_no_finding() -> None:
    measured = {"labels": _measure({"label_suspect": {"n": 0, "flagged": 0}})}
    assert find_findings(ROWS, measured, GROUPS) == []


def test_every_level_says_why() -> None:
    assert set(LEVELS) == {"serious", "notable", "minor", "look"}
