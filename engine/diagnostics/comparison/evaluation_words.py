"""What is said of a comparison of two evaluations beside its figures, on screen and command line."""

from __future__ import annotations

from collections.abc import Sequence

from engine.diagnostics.phrasing import plural


def rows_apart(first: int, second: int, common: int) -> str:
    """That the two are not of the same rows; `common`: rows that both have, of n each."""
    if not common:
        return f"No row is in both: this one has {plural(first, 'row')}, the other {second:,} others."
    most = max(first, second)
    if common == min(first, second):
        return (
            f"Compared on {plural(common, 'row')} of both; {most - common:,} that only one has are left out."
        )
    return (
        f"Only {plural(common, 'row')} of this one's {first:,} and the other's {second:,} are in both; all"
        " else is left out, and so few may differ from the rest."
    )


def asked_unlike(ways: Sequence[str]) -> list[str]:
    """That they were not asked alike, where `ways` names in what."""
    if not ways:
        return []
    return [f"The two were not asked alike ({'; '.join(ways)}), which may make answers differ by itself."]
