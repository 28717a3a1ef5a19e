"""Options that may be repeated and say a pair each: role=column, value=meaning."""

from __future__ import annotations

from store.contract.errors import ConfigError


def columns_in(given: list[str]) -> dict[str, str]:
    """role -> column; a role that is given again has one more column: choices, choices_2 …"""
    columns: dict[str, str] = {}
    for text in given:
        role, column = _pair("column", "role=column", text)
        number = sum(name == role or name.rpartition("_")[0] == role for name in columns)
        columns[f"{role}_{number + 1}" if number else role] = column
    return columns


def pairs_in(field: str, form: str, given: list[str]) -> dict[str, str]:
    """What an option that may be repeated says: left -> right. Raises ConfigError for one without a sign of
    equality."""
    return dict(_pair(field, form, text) for text in given)


def _pair(field: str, form: str, text: str) -> tuple[str, str]:
    left, equals, right = text.rpartition("=") if field != "column" else text.partition("=")
    if not equals:
        raise ConfigError(
            f"--{field.replace('_', '-')} is {text!r}.", fix=f"Write it as {form}.", field=field
        )
    return left, right
