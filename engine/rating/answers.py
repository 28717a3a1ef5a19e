"""What a rater may answer, by the protocol of the round."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

from store.core.errors import ConfigError
from store.core.rating_schemas import RatingAnswer, TextSpan
from store.rating.config import RoundConfig

MOST_CHARACTERS = 200_000  # of a corrected answer
MOST_REASON = 500
MAX_SPANS = 1_000  # of one text


def check_answer(
    config: RoundConfig, answer: Mapping[str, Any], answers_seen: int, text: str = ""
) -> RatingAnswer:
    """The answer, with the fields of its protocol alone; `answers_seen`: answers that the rater saw; `text`:
    of spans, that in which they lie.

    Raises ConfigError that names the field.
    """
    if answer.get("skipped") is True:
        return {"skipped": True, "reason": _text(answer, "reason", MOST_REASON)}
    if config.protocol == "spans":
        return {"spans": _spans(config, answer, text)}
    checks = {
        "pairwise": _choice,
        "rank": _ranks,
        "rubric": _scores,
        "pass_fail": _passed,
        "correction": _corrected,
        "label": _labels if config.several_labels else _labelled,
        "free_text": _written,
    }
    return cast(RatingAnswer, checks[config.protocol](config, answer, answers_seen))


def _choice(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    able = ["A", "B", *(["tie"] if config.ties else []), *(["both_bad"] if config.both_bad else [])]
    return {"choice": _of(answer, "choice", able)}


def _ranks(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    ranks = answer.get("ranks")
    whole = isinstance(ranks, list) and all(type(rank) is int and 1 <= rank <= answers_seen for rank in ranks)
    if not whole or len(cast(list[int], ranks)) != answers_seen:
        raise _wrong("ranks", ranks, f"a rank from 1 to {answers_seen} for each of {answers_seen} answers")
    return {"ranks": ranks}


def _scores(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    scores = answer.get("scores")
    points = {criterion.name: criterion.points for criterion in config.criteria}
    if not isinstance(scores, dict) or set(scores) != set(points):
        raise _wrong("scores", scores, f"a score for each of {', '.join(sorted(points))}")
    for name, score in scores.items():
        if type(score) is not int or not 1 <= score <= points[name]:
            raise _wrong(f"scores.{name}", score, f"a whole number from 1 to {points[name]}")
    return {"scores": scores}


def _passed(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    passed, reasons = answer.get("passed"), answer.get("reasons", [])
    if not isinstance(passed, bool):
        raise _wrong("passed", passed, "true or false")
    if not isinstance(reasons, list) or not set(map(str, reasons)) <= set(config.reasons):
        raise _wrong("reasons", reasons, f"some of {', '.join(config.reasons) or 'none'}")
    return {"passed": passed, "reasons": reasons}


def _corrected(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    text = _text(answer, "text", MOST_CHARACTERS)
    if not text.strip():
        raise _wrong("text", text, "an answer that is not empty; skip it where there is none")
    return {"text": text}


def _labelled(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    label = answer.get("label", "")
    if label is not None and label not in config.labels:
        raise _wrong("label", label, f"one of {_named(config)}, or null where none of them fits")
    note = _text(answer, "note", MOST_REASON)
    return {"label": label, "note": "" if label else note}


def _labels(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    given = answer.get("labels")
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        raise _wrong("labels", given, "a list of labels, empty where none of them fits")
    for place, label in enumerate(given):
        if label not in config.labels:
            raise _wrong(f"labels.{place}", label, f"one of {_named(config)}")
        if label in given[:place]:
            raise _wrong(f"labels.{place}", label, "each label once")
    note = _text(answer, "note", MOST_REASON)
    return {"labels": [label for label in config.labels if label in given], "note": "" if given else note}


def _spans(config: RoundConfig, answer: Mapping[str, Any], text: str) -> list[TextSpan]:
    """By start, end and label."""
    given = answer.get("spans")
    if not isinstance(given, list) or len(given) > MAX_SPANS:
        raise _wrong(
            "spans", given, f"a list of up to {MAX_SPANS:,} spans, empty where nothing is to be marked"
        )
    spans = [_span(config, f"spans.{place}", span, len(text)) for place, span in enumerate(given)]
    spans.sort(key=lambda span: (span["start"], span["end"], span["label"]))
    for before, span in pairwise(spans):
        if span == before:
            raise _wrong("spans", span, "each span with its label once")
    if not config.overlapping:
        for before, span in pairwise(spans):
            if span["start"] < before["end"]:
                raise _wrong("spans", span, f"spans that share no characters; {before} does")
    return spans


def _span(config: RoundConfig, field: str, span: object, characters: int) -> TextSpan:
    if not isinstance(span, dict):
        raise _wrong(field, span, "an object with start, end and label")
    start, end, label = (span.get(name) for name in ("start", "end", "label"))
    if type(start) is not int or not 0 <= start < characters:
        raise _wrong(f"{field}.start", start, f"a character of the text, 0 to {characters - 1}")
    if type(end) is not int or not start < end <= characters:
        raise _wrong(f"{field}.end", end, f"the character after the span, {start + 1} to {characters}")
    if label not in config.labels:
        raise _wrong(f"{field}.label", label, f"one of {_named(config)}")
    return {"start": start, "end": end, "label": label}


def _written(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, Any]:
    written = _text(answer, "written", MOST_CHARACTERS).strip()
    if not written:
        raise _wrong("written", written, "an answer that is not empty; skip it where there is none")
    return {"written": written}


def _named(config: RoundConfig) -> str:
    return ", ".join(config.labels[:20]) + (" …" if len(config.labels) > 20 else "")


def _of(answer: Mapping[str, Any], field: str, able: list[str]) -> str:
    value = answer.get(field)
    if value not in able:
        raise _wrong(field, value, f"one of {', '.join(able)}")
    return cast(str, value)


def _text(answer: Mapping[str, Any], field: str, most: int) -> str:
    value = answer.get(field, "")
    if not isinstance(value, str) or len(value) > most:
        raise _wrong(field, value, f"a text of up to {most:,} characters")
    return value


def _wrong(field: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{field} is {str(value)[:80]!r}.", fix=f"Give {wanted}.", field=f"answer.{field}")
