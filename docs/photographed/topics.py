"""The texts: what Python's own documentation says, and which part of Python each is about."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.data.readers import python_docs

TOPICS = {
    "dates": ("datetime", "calendar", "time"),
    "files": ("os", "pathlib", "shutil", "tempfile"),
    "logging": ("logging",),
    "mail": ("email", "mailbox", "smtplib", "imaplib"),
    "numbers": ("decimal", "math", "statistics", "fractions"),
    "xml": ("xml",),
}
INSTRUCTION = "Which part of Python is this about: dates, files, logging, mail, numbers or xml?"


def documentation(topics: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Text and topic, of the modules that a topic has; those that repeat too."""
    script = [sys.executable, "-I", "-S", "-X", "utf8", str(python_docs.__file__)]
    rows = json.loads(
        subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    )
    topic_of = {module: topic for topic, modules in topics.items() for module in modules}
    return [
        (row["completion"], topic_of[row["module"].partition(".")[0]])
        for row in rows
        if row["module"].partition(".")[0] in topic_of and row["completion"]
    ]


def write_topics(path: Path) -> Counter[str]:
    """The file that is imported."""
    labelled = documentation(TOPICS)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *labelled])
    return Counter(topic for _, topic in labelled)
