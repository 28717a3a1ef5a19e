"""Validate a rater's answer by the protocol of the round."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

from store.core.errors import ConfigError
from store.core.rating_schemas import RatingAnswer, TextSpan
from store.rating.config import RoundConfig

MAX_CHARACTERS = 200_000  # of a corrected or written answer
MAX_REASON = 500
MAX_SPANS = 1_000  # per text


def check_answer(
    config: RoundConfig, answer: Mapping[str, Any], answers_seen: int, text: str = ""
) -> RatingAnswer:
    """Return the answer with only the fields of its protocol.

    `answers_seen` is the number of answers shown to the rater; `text` is the text that spans refer to.

    Raises ConfigError that names the field.
    """
    if answer.get("skipped") is True:
        return {"skipped": True, "reason": _check_text(answer, "reason", MAX_REASON)}
    if config.protocol == "spans":
        return {"spans": _check_spans(config, answer, text)}
    checks = {
        "pairwise": _check_choice,
        "rank": _check_ranks,
        "rubric": _check_scores,
        "pass_fail": _check_passed,
        "correction": _check_correction,
        "label": _check_labels if config.several_labels else _check_label,
        "free_text": _check_free_text,
    }
    return cast(RatingAnswer, checks[config.protocol](config, answer, answers_seen))


def _check_choice(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    able = ["A", "B", *(["tie"] if config.ties else []), *(["both_bad"] if config.both_bad else [])]
    choice = answer.get("choice")
    if choice not in able:
        raise _build_error("choice", choice, f"one of {', '.join(able)}")
    return {"choice": choice}


def _check_ranks(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    ranks = answer.get("ranks")
    whole = isinstance(ranks, list) and all(type(rank) is int and 1 <= rank <= answers_seen for rank in ranks)
    if not whole or len(cast(list[int], ranks)) != answers_seen:
        raise _build_error(
            "ranks", ranks, f"a rank from 1 to {answers_seen} for each of {answers_seen} answers"
        )
    return {"ranks": ranks}


def _check_scores(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    scores = answer.get("scores")
    points = {criterion.name: criterion.points for criterion in config.criteria}
    if not isinstance(scores, dict) or set(scores) != set(points):
        raise _build_error("scores", scores, f"a score for each of {', '.join(sorted(points))}")
    for name, score in scores.items():
        if type(score) is not int or not 1 <= score <= points[name]:
            raise _build_error(f"scores.{name}", score, f"a whole number from 1 to {points[name]}")
    return {"scores": scores}


def _check_passed(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    passed, reasons = answer.get("passed"), answer.get("reasons", [])
    if not isinstance(passed, bool):
        raise _build_error("passed", passed, "true or false")
    if not isinstance(reasons, list) or not set(map(str, reasons)) <= set(config.reasons):
        raise _build_error("reasons", reasons, f"some of {', '.join(config.reasons) or 'none'}")
    return {"passed": passed, "reasons": reasons}


def _check_correction(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    text = _check_text(answer, "text", MAX_CHARACTERS)
    if not text.strip():
        raise _build_error("text", text, "an answer that is not empty; skip the item if there is none")
    return {"text": text}


def _check_label(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    label = answer.get("label", "")
    if label is not None and label not in config.labels:
        raise _build_error(
            "label", label, f"one of {_format_labels(config)}, or null where none of them fits"
        )
    note = _check_text(answer, "note", MAX_REASON)
    return {"label": label, "note": "" if label else note}


def _check_labels(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    given = answer.get("labels")
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        raise _build_error("labels", given, "a list of labels, empty where none of them fits")
    for place, label in enumerate(given):
        if label not in config.labels:
            raise _build_error(f"labels.{place}", label, f"one of {_format_labels(config)}")
        if label in given[:place]:
            raise _build_error(f"labels.{place}", label, "each label once")
    note = _check_text(answer, "note", MAX_REASON)
    return {"labels": [label for label in config.labels if label in given], "note": "" if given else note}


def _check_spans(config: RoundConfig, answer: Mapping[str, Any], text: str) -> list[TextSpan]:
    """Return the spans sorted by start, end and label."""
    given = answer.get("spans")
    if not isinstance(given, list) or len(given) > MAX_SPANS:
        raise _build_error(
            "spans", given, f"a list of up to {MAX_SPANS:,} spans, empty where nothing is to be marked"
        )
    spans = [_check_span(config, f"spans.{place}", span, len(text)) for place, span in enumerate(given)]
    spans.sort(key=lambda span: (span["start"], span["end"], span["label"]))
    for before, span in pairwise(spans):
        if span == before:
            raise _build_error("spans", span, "each span with its label once")
    if not config.overlapping:
        for before, span in pairwise(spans):
            if span["start"] < before["end"]:
                raise _build_error("spans", span, f"spans that share no characters; {before} does")
    return spans


def _check_span(config: RoundConfig, field: str, span: object, characters: int) -> TextSpan:
    if not isinstance(span, dict):
        raise _build_error(field, span, "an object with start, end and label")
    start, end, label = (span.get(name) for name in ("start", "end", "label"))
    if type(start) is not int or not 0 <= start < characters:
        raise _build_error(f"{field}.start", start, f"a character of the text, 0 to {characters - 1}")
    if type(end) is not int or not start < end <= characters:
        raise _build_error(f"{field}.end", end, f"the character after the span, {start + 1} to {characters}")
    if label not in config.labels:
        raise _build_error(f"{field}.label", label, f"one of {_format_labels(config)}")
    return {"start": start, "end": end, "label": label}


def _check_free_text(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> dict[str, object]:
    written = _check_text(answer, "written", MAX_CHARACTERS).strip()
    if not written:
        raise _build_error("written", written, "an answer that is not empty; skip the item if there is none")
    return {"written": written}


def _format_labels(config: RoundConfig) -> str:
    return ", ".join(config.labels[:20]) + (" …" if len(config.labels) > 20 else "")


def _check_text(answer: Mapping[str, Any], field: str, most: int) -> str:
    value = answer.get(field, "")
    if not isinstance(value, str) or len(value) > most:
        raise _build_error(field, value, f"a text of up to {most:,} characters")
    return value


def _build_error(field: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{field} is {str(value)[:80]!r}.", fix=f"Give {wanted}.", field=f"answer.{field}")
