"""Redaction of personal data and secrets in the texts that the log keeps."""

from __future__ import annotations

from typing import Any

from engine.data.signals.personal_data import find_personal_data


def redact(value: Any) -> tuple[Any, int]:
    """Replace personal data in messages or a text, of any depth, by [EMAIL] and the like, and count it."""
    if isinstance(value, str):
        return _redact_text(value)
    if isinstance(value, list):
        entries = [redact(entry) for entry in value]
        return [entry for entry, _ in entries], sum(places for _, places in entries)
    if isinstance(value, dict):
        pairs = {name: redact(entry) for name, entry in value.items()}
        return {name: entry for name, (entry, _) in pairs.items()}, sum(
            places for _, places in pairs.values()
        )
    return value, 0


def _redact_text(text: str) -> tuple[str, int]:
    parts, end, spans = [], 0, find_personal_data(text)
    for span in spans:
        parts += [text[end : span.start], f"[{span.kind.upper()}]"]
        end = span.end
    return "".join([*parts, text[end:]]), len(spans)
