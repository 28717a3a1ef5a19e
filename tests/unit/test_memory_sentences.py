"""No sentence of memory, forgetting, comparisons and transfer says what can't be so."""

from __future__ import annotations

import re

import pytest

from tests.unit.memory_sentences import SOURCES

NUMBER = r"−?\d[\d,]*(?:\.\d+)?(?:×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?"
PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", ",")
ODD = {
    "not a number": re.compile(r"\bnan\b|\binf\b|∞|None(?! of)"),
    "an interval of no width": re.compile(rf"(?<![\d.,−])({NUMBER}) to \1(?!\d|[.,]\d)"),
    "of nothing": re.compile(r"\bof 0 |\b0 of 0\b|^0 "),
    "a share of a thousand": re.compile(r"\d,\d{3}(?:\.\d+)?%"),
    "one and many": re.compile(
        r"(?<![\d,.])1 (?!less|times|does|comes|repeats|occurs)\w+s\b(?!\.)|\bOf 1 \w+s\b"
    ),
    "too many digits": re.compile(r"\d{7}|\d,\d{3},\d{3}"),
    "an empty reason": re.compile(r"\(\)|\( |: \.|  "),
}


def value(number: str) -> float:
    return float(number.translate(PLAIN).replace("×10", "e"))


def odd(sentence: str) -> list[str]:
    """What is wrong with it."""
    found = [name for name, pattern in ODD.items() if pattern.search(sentence)]
    if "can't be told from noise" in sentence:
        ends = [(value(low), value(high)) for low, high in re.findall(rf"({NUMBER}) to ({NUMBER})", sentence)]
        found += ["noise, and surely not 0"] if ends and not any(a <= 0 <= b for a, b in ends) else []
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_what_is_said_at_the_edges_can_be_so(source) -> None:  # type: ignore[no-untyped-def]
    said = set(source())
    assert len(said) > 3
    assert {sentence: reasons for sentence in said if (reasons := odd(sentence))} == {}


def test_what_is_odd_is_seen() -> None:
    assert odd("A is worse by nan nats (0.50 to 0.50)") == ["not a number", "an interval of no width"]
    assert odd("That can't be told from noise (−23 to −9)") == ["noise, and surely not 0"]
    assert odd("Training on A costs B 15,000,000,000,000%.") == ["a share of a thousand", "too many digits"]
    assert odd("It costs 1 rows of 0 rows") == ["of nothing", "one and many"]
    assert odd("That can't be told from noise (−2 to 9), n 1 row") == []
