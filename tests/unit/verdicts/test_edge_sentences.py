"""No sentence of the diagnostics says what can't be so, from evidence that is at its edges."""

from __future__ import annotations

import pytest

from store.core import formatting
from tests.unit.every_sentence import SOURCES, every
from tests.unit.odd_sentences import odd
from tests.unit.verdict_inputs import judge
from tests.unit.verdict_sentences import CONFIG, STOPPED


@pytest.mark.parametrize("topic", SOURCES)
def test_what_is_said_at_the_edges_can_be_so(topic: str) -> None:
    sentences = every(topic)
    assert len(sentences) > 3
    assert {sentence: reasons for sentence in sentences if (reasons := odd(sentence))} == {}


@pytest.mark.parametrize(
    ("sentence", "reasons"),
    [
        ("the tuned model is worse by 0.00 nats", ["a change by nothing"]),
        ("A is worse by nan nats (0.50 to 0.50)", ["a value that is none", "an interval of no width"]),
        ("times 1,234,567,890,123", ["too many digits"]),
        ("0.5 (no interval: one row)", ["an empty reason"]),
        ("costs 1500% of", ["a share that can't be"]),
        ("Training on A costs B 15,000,000,000,000%.", ["a share that can't be", "too many digits"]),
        ("on 1 rows", ["one and many"]),
        ("It costs 1 rows of 0 rows", ["of nothing", "one and many"]),
        ("That can't be distinguished from noise (−23 to −9)", ["noise, and surely not 0"]),
        ("That can't be distinguished from noise (−2 to 9), n 1 row", []),
        ("None of 5 rows; Training on A costs B 150% (120 to 180)", ["a share that can't be"]),
        ("Training on A costs B 150% (120 to 180).", []),
    ],
)
def test_what_is_odd_is_seen(sentence: str, reasons: list[str]) -> None:
    assert odd(sentence) == reasons


def test_sentences_of_edges_by_hand() -> None:
    """What stood there before: a value without rows to tell it, an interval of no width, 0% where nothing
    moved."""
    document = judge(
        row_ids=[0], split="test", base_loss_sum=[7.0], tuned_loss_sum=[7.0], tokens=[10], base_correct=[1],
        tuned_correct=[1], eval_rows=[], train_curve=[], stopped=STOPPED, config=CONFIG,
    )  # fmt: skip
    assert document.headline.startswith("Inconclusive with 1 held-out row: there is only one row")
    assert formatting.format_interval(None, None) == "no interval"
    assert formatting.format_number(1e12, 2) == "1.0×10¹²"
    assert formatting.format_number(-1e-9, 6) == "−1.0×10⁻⁹"
    assert formatting.format_number(-0.001, 2) == "0.00"
    assert formatting.format_point_value(0.0031) == "0.0031"
