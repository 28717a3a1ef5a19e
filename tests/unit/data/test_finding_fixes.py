"""Each button of a finding is pressed on rows that have it: rows change, and measured again it is mended."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.data import measurement_job
from engine.data.measurement_job import compute_column_figures
from engine.evaluation.verdicts.data_findings import RULES, Finding, find_findings
from store.core.home import Home
from store.data.signals import GROUP_OF, GROUPS, SIGNALS
from tests.unit.profile_job import job_of
from tests.unit.recipe_samples import chat, make, measure, run

SOUND = [
    chat(
        f"What is fact number {n} about the river?",
        f"On day {n} {'abcdefghijklmnop'[n % 16]} boats passed it.",
    )
    for n in range(60)
]
HABIT = [
    chat(
        f"What of {n}?",
        "red blue green " + " ".join(f"w{n}x{k}" for k in range(10 + n // 8)) + " red blue green",
    )
    for n in range(90)
]
LOOPING = [chat(f"Why {n}?", "over and over it goes " * 9) for n in range(12)]

FAULTY: dict[str, list[dict[str, Any]]] = {
    "encoding_damage": [chat("How do you write it?", "spÃ¤t und frÃ¼h"), chat("Bell", "He rang\x07 twice.")],
    "lost_characters": [chat("Which sign is lost?", "The caf\ufffd is closed today.")],
    "html": [chat("w", "<p>tag</p> <br> &nbsp; text"), chat("c", "```\n<ul></ul>\n```\nAnd <b>so</b>.")],
    "boilerplate": [
        chat("w", "Text.\nAll rights reserved.\nmore"),
        chat("v", "A long text... read more\nso."),
    ],
    "email": [chat("mail?", "Write to ann@example.org")],
    "phone": [chat("call?", "Call +1 415 555 2671 now")],
    "card": [chat("card?", "4111 1111 1111 1111")],
    "iban": [chat("bank?", "DE89 3704 0044 0532 0130 00")],
    "ip": [chat("ip?", "It is at 93.184.216.34 now")],
    "ssn": [chat("number?", "SSN: 536-90-4399")],
    "address": [chat("where?", "He lives at 221 Baker Street, London")],
    "secret": [chat("key?", "AKIAIOSFODNN7EXAMPLE")],
    "profanity": [chat("p", "This is fucking shit")],
    "exact_group": [chat("d", "dup dup")] * 5,
    "near_group": [
        chat("Say it", " ".join(f"word{n}" for n in range(30)) + ending) for ending in (" a", " b", " c")
    ]
    * 8,
    "conflict": [chat("Is it open?", answer) for answer in ("yes", "no", "no")],
    "empty_answer": [chat("e", "...")],
    "one_word_answer": [chat(f"How is {n}?", "fine") for n in range(40)],
    "echo": [chat("What is the river called?", "What is the river called?")],
    "refusal": [chat("x", "I'm sorry, but I can't help with that.")],
    "truncated": [chat(f"t{n}?", "It goes on and on " * 15 + "the") for n in range(8)],
    "repetition": HABIT + LOOPING,
}
MEASURED_BY_MODELS = {"cut", "label_suspect", "ifd"}  # asked of a model: their columns are made up, or below


def look(home: Home, dataset: dict[str, Any], column: str) -> tuple[Finding | None, dict[str, Any]]:
    """The finding of this signal, measured now, and its figure; the sidecar is where recipes look for it."""
    group = GROUP_OF[column]
    job = job_of(home, dataset["fingerprint"], group)
    result = measurement_job.run(job)
    measured = {group: SimpleNamespace(**result, outdated=False)}
    sidecar = home.signals(dataset["fingerprint"], group)
    sidecar.parent.mkdir(exist_ok=True)
    shutil.copy(job.dir.path / f"{group}.parquet", sidecar)
    dataset["signals"] = {group: {}}
    findings = find_findings(dataset["row_count"], measured, GROUPS)
    finding = next((f for f in findings if f.column == column), None)
    return finding, result["figures"][column]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def test_every_finding_with_a_button_is_pressed_here() -> None:
    assert FAULTY.keys() | MEASURED_BY_MODELS == RULES.keys()


@pytest.mark.parametrize("column", sorted(FAULTY))
def test_a_pressed_button_changes_rows_and_mends_the_finding(home: Home, column: str) -> None:
    dataset = make(home, SOUND + FAULTY[column])
    before, figure = look(home, dataset, column)
    assert before is not None
    assert before.fixes
    for fix in before.fixes:
        cleaned = run(home, dataset, *fix.steps)
        assert cleaned.changes, fix.label
        after, mended = look(home, {**dataset, **cleaned.result}, column)
        if SIGNALS[column].unit == "share":  # judged by a median
            assert mended["median"] < figure["median"]
        else:
            assert after is None, fix.label


@pytest.mark.parametrize(
    ("column", "rows"),
    [
        ("encoding_damage", FAULTY["lost_characters"]),
        ("html", [chat(f"Make list {n}", "```html\n<ul><li>a</li></ul>\n```") for n in range(9)]),
        ("html", [chat(f"Open {n}", "It says <a href= and stops") for n in range(9)]),
        ("boilerplate", [chat("v", "And so on...\nread more of it in the book")]),
    ],
)
def test_what_a_button_would_leave_as_it_is_is_no_finding_with_that_button(
    home: Home, column: str, rows: list[dict[str, Any]]
) -> None:
    assert look(home, make(home, SOUND + rows), column)[0] is None


def test_repetition_that_no_row_is_mostly_made_of_has_no_button(home: Home) -> None:
    finding, _ = look(home, make(home, HABIT), "repetition")
    assert finding is not None
    assert finding.fixes == ()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("ifd", {"ifd": [1.0 + n / 60 for n in range(60)]}),
        ("label_suspect", {"label_suspect": [n < 9 for n in range(60)], "label_suggested": ["b"] * 60}),
    ],
)
def test_a_button_over_what_a_model_measured_leaves_none_of_it(
    home: Home, column: str, values: dict[str, list[Any]]
) -> None:
    dataset = make(home, [{"text": f"row {n}", "label": "a" if n % 2 else "c"} for n in range(60)])
    signal, group = SIGNALS[column], GROUP_OF[column]
    measure(home, dataset, group, **values)
    table = pq.read_table(home.signals(dataset["fingerprint"], group))
    options = {"max_length": 8, "model": "m"}
    figures = compute_column_figures(table, (signal,))
    measured = {group: SimpleNamespace(figures=figures, options=options, outdated=False)}
    (finding,) = find_findings(dataset["row_count"], measured, GROUPS)
    suspicious = {n for n, value in enumerate(values[column]) if value and value > (signal.unit == "ratio")}
    for fix in finding.fixes:
        assert {change[0] for change in run(home, dataset, *fix.steps).changes} == suspicious
