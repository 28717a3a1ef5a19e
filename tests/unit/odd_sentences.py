"""What no sentence may say, whatever it is of: patterns of what is untrue or odd by its form alone."""

from __future__ import annotations

import re

NUMBER = r"−?\d[\d,]*(?:\.\d+)?(?:×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?"
PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", ",")
ODD = {
    "a value that is none": re.compile(r"\bnan\b|\binf\b|∞|None\b(?! of)"),
    "a change by nothing": re.compile(
        r"\b(better|worse|rose|fell|lost|less|more|higher|lower)\b[^.;:]{0,40}\bby −?0(\.0+)?(?![\d.,×])"
    ),
    "an interval of no width": re.compile(rf"(?<![\d.,−×⁰¹²³⁴⁵⁶⁷⁸⁹⁻])({NUMBER}) to \1(?![\d×]|[.,]\d)"),
    "of nothing": re.compile(r"\bof 0 |\b0 of 0\b|^0 "),
    # what training costs another task may be many times what it had
    "a share that can't be": re.compile(
        r"^(?!Training on ).*(?<![\d.,])(?!100(\.0+)?%)\d{3,}(\.\d+)?%|\d,\d{3}(\.\d+)?%|−\d+(\.\d+)?% of"
    ),
    "one and many": re.compile(
        r"(?<![\d,.])1 (?!less|does|comes|repeats|occurs|is\b|harmless)\w+s\b(?!\.)|\bOf 1 \w+s\b"
        r"|(?<![\d.,])1 (rows|pairs|steps|tokens|validations|passages|requests|epochs)\b"
    ),
    "too many digits": re.compile(r"(?<![.\d])\d{7,}|\d{1,3}(,\d{3}){3,}|\d\.\d{7,}"),
    "an empty reason": re.compile(
        r"\(\)|\( |: \.|  |no interval: ?[\])]|no interval: one row|^[ .,:;)]|:\.|\.\.$"
    ),
}


def value(number: str) -> float:
    """Of a number as sentences write it."""
    return float(number.translate(PLAIN).replace("×10", "e"))


def odd(sentence: str) -> list[str]:
    """What is wrong with it."""
    reasons = [name for name, pattern in ODD.items() if pattern.search(sentence)]
    if "can't be distinguished from noise" in sentence:
        ends = [(value(low), value(high)) for low, high in re.findall(rf"({NUMBER}) to ({NUMBER})", sentence)]
        reasons += ["noise, and surely not 0"] if ends and not any(a <= 0 <= b for a, b in ends) else []
    return reasons
