"""Every sentence that the diagnostics say at the edges of their evidence, by what it is of.

`python -m tests.unit.every_sentence [TOPIC …]` prints them, for a person to read.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

from tests.unit import advice_sentences, memory_sentences, verdict_sentences

SOURCES = {
    source.__name__.removeprefix("of_"): source
    for topic in (verdict_sentences, memory_sentences, advice_sentences)
    for source in topic.SOURCES
}


def every(topic: str) -> list[str]:
    """Its sentences, each once."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(dict.fromkeys(filter(None, SOURCES[topic]())))


if __name__ == "__main__":
    for topic in sys.argv[1:] or SOURCES:
        print(f"\n{topic}", *every(topic), sep="\n  ")
