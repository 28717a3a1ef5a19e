"""The group `privacy`: counts of each kind of personal data, secrets and swear words in a row.

The counts are those of `find_personal_data`, which redaction uses too. Nine of ten rows match no gate of
most finders: gates are evaluated for all texts at once, and Python only reads the rows that match one.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.signals.identifiers import remove_overlaps
from engine.data.signals.personal_data import FINDERS
from engine.worker.job import WorkerJob
from store.core.row_schemas import SignalOptions
from store.data.config import ProfileConfig

# English swear words and slurs: whole words with simple inflections, and masked forms. The list is short and
# unambiguous: a word that often means something else (cock, or ass for the animal) causes more false alarms
# than findings. Mild words such as damn and hell are not counted.

_WORDS = (
    r"(?:mother)?fuck(?:s|ed|er|ers|in|ing|ings|wit|wits|head|heads|face|up|tard|able)?",
    r"(?:bull|horse|dip|bat|ape)?shit(?:s|ty|tier|tiest|ting|ted|head|heads|hole|holes|show|faced|bag)?",
    r"(?:son of a )?bitch(?:es|y|ing|ed|in)?|cunt(?:s|y|ish)?|cocksuck(?:er|ers|ing)",
    r"dick(?:head|heads|wad)|twat(?:s|ty)?|wank(?:er|ers|ing|ed)?|bollocks|tosser(?:s)?|arse(?:s|hole|holes)?|pussies",
    r"(?:dumb|bad|jack|smart|fat|lard)?ass(?:hole|holes|hat|hats|wipe|wipes)?|bastard(?:s|y)?|goddamn(?:ed|it)?",
    r"piss(?:ed|ing|er|es)?|slut(?:s|ty|tier)?|whor(?:e|es|ed|ing)|skank(?:s|y)?|douche(?:bag|bags)",
    r"jizz|dildo(?:s)?|titt(?:y|ies)|fck(?:ing|in|ed)?|fuk(?:ing|in|ed)?|stfu|wtf|gtfo|milf",
    r"nigg(?:er|ers|a|as|az)|fag(?:got|gots|gy)|trann(?:y|ies)|retard(?:s|ed)|spic(?:s)?|kike(?:s)?|gook(?:s)?",
    r"wetback(?:s)?|paki(?:s)?|raghead(?:s)?|towelhead(?:s)?|beaner(?:s)?|chinam[ae]n|darkie(?:s)?|coon(?:s)",
    r"f[*@#$%]{1,3}k?(?:ing|in|ed|er|s)?|f\*+ing|sh[*@#!$]t(?:ty|s)?|s[*@#]{2}t|b[*@#!]tch(?:es)?|c[*@#]nt(?:s)?"
    r"|a[*@#$]{2}hole(?:s)?|n[*@#!]gg(?:er|a)(?:s)?",
)
PROFANITY = r"(?:" + "|".join(_WORDS) + r")"
PROFANITY_GATE = r"(?i)\b" + PROFANITY
_PROFANITY = re.compile(rf"(?<![\w*]){PROFANITY}(?![\w*])", re.IGNORECASE)


def count_profanity(text: str) -> int:
    """Return the number of swear words in the text."""
    return sum(1 for _ in _PROFANITY.finditer(text))


READS = ("text",)


def prepare(job: WorkerJob, config: ProfileConfig, rows_path: Path) -> tuple[None, SignalOptions]:
    """Return no context and no options."""
    return None, {}


def measure(batch: pa.RecordBatch, context: None) -> dict[str, np.ndarray]:
    """Compute the columns of the group, int32."""
    texts = batch.column("text").fill_null("")
    counts = {kind: np.zeros(len(texts), np.int32) for kind in (*FINDERS, "profanity")}
    passed: dict[int, list[str]] = {}  # row -> finders whose gate it matches, in order
    for kind, finder in FINDERS.items():
        for row in _find_matching(texts, finder.gate):
            passed.setdefault(row, []).append(kind)
    for row, kinds in passed.items():
        text = texts[row].as_py()
        for span in remove_overlaps(span for kind in kinds for span in FINDERS[kind].find(text)):
            counts[span.kind][row] += 1
    for row in _find_matching(texts, PROFANITY_GATE):
        counts["profanity"][row] = count_profanity(texts[row].as_py())
    return counts


def _find_matching(texts: pa.Array, gate: str) -> list[int]:
    return np.flatnonzero(pc.match_substring_regex(texts, gate).to_numpy(zero_copy_only=False)).tolist()
