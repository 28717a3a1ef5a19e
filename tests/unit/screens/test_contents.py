"""What is in a data set, as the summary says it from the figures that were measured."""

from __future__ import annotations

from typing import Any

from pages.data.explore.summary import build_signal_tiles, list_content_facts
from store.data.schemas import Dataset, SignalRow
from tests.unit.store_samples import row_of

ANSWERS = {"n": 100, "median": 12.4, "p95": 40}


def facts_by_title(kind: str, label_count: int = 0, **text: Any) -> dict[str, tuple[str, str]]:
    dataset = row_of(Dataset, kind=kind, row_count=100, stats={"label_count": label_count})
    facts = list_content_facts(dataset, {"text": row_of(SignalRow, figures=text)})
    return {title: (value, note) for title, value, note in facts}


def test_languages_go_by_their_names_and_what_is_not_known_is_said() -> None:
    values = {"": 30, "en": 40, "de": 10, "fr": 10, "it": 6, "xx": 4}
    facts = facts_by_title("chat", language={"n": 100, "distinct": 6, "values": values})
    assert facts["Languages"] == (
        "English 40%",
        "of 100 rows; German 10%; French 10%; Italian 6.0%; 1 more; 30% not known",
    )
    assert (
        facts_by_title("chat", language={"n": 9, "distinct": 1, "values": {"": 9}})["Languages"][0]
        == "not known"
    )


def test_only_what_answers_has_their_length() -> None:
    assert facts_by_title("chat", answer_words=ANSWERS)["Length of an answer"][0] == "12 words"
    assert facts_by_title("text", answer_words=ANSWERS)["Words of a row"][0] == "12 words"
    assert not facts_by_title("chat", label_count=3, answer_words=ANSWERS)  # there it is a label


def test_several_right_answers_to_a_prompt_are_what_is_in_it_and_no_finding() -> None:
    figures = {"references": {"n": 100, "flagged": 90}}
    measured = {"duplicates": row_of(SignalRow, figures=figures, options={})}
    dataset = row_of(Dataset, kind="chat", row_count=100, stats={})
    (fact,) = list_content_facts(dataset, measured)
    assert fact[:2] == ("Several references", "90% of the rows")
    assert not build_signal_tiles(dataset, measured)
    figures["references"]["flagged"] = 3
    assert not list_content_facts(dataset, measured)
