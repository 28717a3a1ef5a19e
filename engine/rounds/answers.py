"""What a rater may answer, by the protocol of the round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from store.config.judging.round_config import RoundConfig
from store.contract.errors import ConfigError
from store.documents.rating.rating_desk import RatingAnswer

MOST_CHARACTERS = 200_000  # of a corrected answer
MOST_REASON = 500


def check_answer(config: RoundConfig, answer: Mapping[str, Any], answers_seen: int) -> RatingAnswer:
    """The answer, with the fields of its protocol alone; `answers_seen`: answers that the rater saw.

    Raises ConfigError that names the field.
    """
    if answer.get("skipped") is True:
        return {"skipped": True, "reason": _text(answer, "reason", MOST_REASON)}
    checks = {
        "pairwise": _choice,
        "rank": _ranks,
        "rubric": _scores,
        "pass_fail": _passed,
        "correction": _corrected,
        "label": _labelled,
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
    names = {criterion.name for criterion in config.criteria}
    if not isinstance(scores, dict) or set(scores) != names:
        raise _wrong("scores", scores, f"a score for each of {', '.join(sorted(names))}")
    for name, score in scores.items():
        if type(score) is not int or not 1 <= score <= 5:
            raise _wrong(f"scores.{name}", score, "a whole number from 1 to 5")
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
        there = ", ".join(config.labels[:20]) + (" …" if len(config.labels) > 20 else "")
        raise _wrong("label", label, f"one of {there}, or null where none of them fits")
    note = _text(answer, "note", MOST_REASON)
    return {"label": label, "note": "" if label else note}


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
