"""Chart colours for white and dark backgrounds, distinguishable with colour vision deficiency."""

from __future__ import annotations

TRAIN = "#e08a2e"  # orange
VALIDATION = "#0f9d8f"  # teal, as in the app's logo
BASE = "#7f8c92"  # grey: the base model's level
BAD = "#d64545"  # red: NaN, overfitting
WHITE_TEXT_BACKGROUNDS = {
    VALIDATION: "#0b776c",
    BAD: "#c43a3a",
}  # the same hues, dark enough as a background of white text
GOOD = "#2e9e5b"  # green: learned, finished
BUSY = "#3d86d6"  # blue: in progress
GRID = "rgba(127,140,146,0.18)"

# Okabe and Ito's palette (2008) without black and yellow, with a violet and a maroon added.
RUNS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7548e8", "#a53131")
DASHES = ("solid", "dash", "dot", "dashdot")


def get_run_color(number: int) -> str:
    """The permanent colour of the run with this number; consecutive numbers never share one."""
    return RUNS[(number - 1) % len(RUNS)]


def get_run_dash(number: int) -> str:
    """The dash style of a run, which distinguishes runs of equal colour for up to 32 runs on one chart."""
    return DASHES[(number - 1) // len(RUNS) % len(DASHES)]
