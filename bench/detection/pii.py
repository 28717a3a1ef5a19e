"""Precision and recall of the finders of personal data, beside Presidio's own pattern recognisers.

The file (`--pii`) is a JSON list of {"full_text", "spans": [{"entity_type", "start_position",
"end_position"}]}, as presidio-research generates them. A labelled span is found where a span of its kind
covers at least half of the shorter of the two; a span that touches no labelled one is a false alarm.
Presidio runs without a language model, so that it finds neither people nor addresses, and whatever score its
patterns give counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.report import Figure, Skipped
from engine.data.signals.personal_data import find_personal_data

KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "ssn",
    "PERSON": "person",
    "STREET_ADDRESS": "address",
}
LIMITS = {"email": 0.95, "card": 0.95, "iban": 0.95, "ip": 0.95, "ssn": 0.95, "phone": 0.9}  # both measures
PRECISION = {"person": 0.9, "address": 0.9}  # much is missed of them, little may be wrong

Spans = list[tuple[int, int, str]]
Finder = Callable[[str], Spans]


def detection(bench: Any) -> list[Figure]:
    """By kind: precision and recall of the project's finders and of Presidio's."""
    path = bench.options.pii
    if path is None or not path.exists():
        raise Skipped(
            f"there is no labelled file {path}" if path else "no labelled file was given (--pii FILE)"
        )
    rows = json.loads(path.read_text(encoding="utf-8"))
    figures = [Figure("labelled texts", len(rows))]
    ours, peer = score(rows, lambda text: [tuple(span) for span in find_personal_data(text)]), _peer(rows)
    for kind in KINDS.values():
        right, wrong, missed = (counts[kind] for counts in ours)
        precision, recall = right / max(1, right + wrong), right / max(1, right + missed)
        least = LIMITS.get(kind)
        figures.append(Figure(f"{kind}: precision", precision, limit=least or PRECISION.get(kind), digits=3))
        figures.append(Figure(f"{kind}: recall (of {right + missed})", recall, limit=least, digits=3))
        if peer and peer[0][kind]:
            right, wrong, missed = (counts[kind] for counts in peer)
            figures.append(Figure(f"{kind}: precision of Presidio", right / (right + wrong), digits=3))
            figures.append(Figure(f"{kind}: recall of Presidio", right / (right + missed), digits=3))
    return figures


def score(rows: list[dict[str, Any]], finder: Finder) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By kind: labelled spans that were found, false alarms, labelled spans that were missed."""
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        labelled: Spans = [
            (span["start_position"], span["end_position"], KINDS[span["entity_type"]])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        spans = finder(row["full_text"])
        for label in labelled:
            (right if any(_same(label, other) for other in spans) else missed)[label[2]] += 1
        for detected in spans:
            if not any(_overlap(detected, other) > 0 for other in labelled if detected[2] == other[2]):
                wrong[detected[2]] += 1
    return right, wrong, missed


def _overlap(span: tuple[int, int, str], other: tuple[int, int, str]) -> int:
    return min(span[1], other[1]) - max(span[0], other[0])


def _same(span: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    shorter = min(span[1] - span[0], other[1] - other[0])
    return span[2] == other[2] and _overlap(span, other) >= shorter / 2


def _peer(rows: list[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[str]] | None:
    """Presidio's pattern recognisers on the same texts; None where it is not installed."""
    try:
        import tldextract.tldextract as domains
        from presidio_analyzer import predefined_recognizers as presidio
    except ImportError:
        return None
    domains.TLD_EXTRACTOR = domains.TLDExtract(suffix_list_urls=())  # its own copy, no network
    names = ("Email", "Phone", "CreditCard", "Iban", "Ip", "UsSsn")
    recognisers = [getattr(presidio, f"{name}Recognizer")() for name in names]

    def finder(text: str) -> Spans:
        return [
            (result.start, result.end, KINDS[result.entity_type])
            for recogniser in recognisers
            for result in recogniser.analyze(text, recogniser.supported_entities, None)
        ]

    return score(rows, finder)
