"""Texts of a megabyte: what looks for something in them takes a time in proportion to their length.

Each text here took the code before it minutes, or seconds for each of thousands of finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.data.cleaning import recipe_run, working_rows
from engine.data.cleaning.content_steps import _count_words, _shorten_answer
from engine.data.cleaning.text_steps import Stripper, make_normaliser
from engine.data.conversion import dataset_writer
from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.signals.identifiers import PersonalSpan, remove_overlaps
from engine.data.signals.personal_data import find_personal_data
from engine.data.similarity.prompts_and_answers import make_reader
from store.core.home import Home
from tests.unit.data_job import make_job
from tests.unit.recipe_samples import chat, make, run

SIZE = 300_000
SECONDS = 4.0  # each takes a tenth of it
strip = Stripper(html=True, boilerplate=True)
normalise = make_normaliser("NFC", white_space=True)


def of_size(part: str) -> str:
    return part * (SIZE // len(part))


@pytest.mark.parametrize(
    ("change", "text", "made"),
    [
        (normalise, "a\n" + " " * SIZE + "b", "a\n" + " " * SIZE + "b"),
        (normalise, "a\n" + " " * SIZE + "\nb", "a\n\nb"),
        (strip, "<br>" + " " * SIZE + "b", "b"),
        (strip, "a<br>\nx" + "\t" * SIZE + "b", "a\n\nx" + "\t" * SIZE + "b"),
        (strip, of_size("<!-- ") + "a", of_size("<!-- ") + "a"),
        (strip, "a<!-- b -->c" + of_size("<!-- "), "ac" + of_size("<!-- ").rstrip()),
        (strip, of_size("a<script x> b </sCRIPT >"), of_size("a")[: SIZE // 24]),
        (strip, "a <br>" + of_size("<script>b"), "a\n" + "b" * (SIZE // 9)),
        (strip, "a" + "\n" * SIZE + "all rights reserved", "a"),
    ],
    ids=range(9),
)
def test_texts_are_cleaned_in_a_time_of_their_length(
    change: Callable[[str], str], text: str, made: str
) -> None:
    began = time.monotonic()
    assert change(text) == made
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("a.b@example.com, ", "email"),
        ("call +49 170 1234567\n", "phone"),
        ("-----BEGIN PRIVATE KEY-----\n", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n", "secret"),
    ],
)
def test_every_find_of_a_long_text_is_found(part: str, kind: str) -> None:
    text = of_size(part)
    began = time.monotonic()
    spans = find_personal_data(text, [kind])
    assert time.monotonic() - began < SECONDS
    assert len(spans) == SIZE // len(part)
    assert {span.end - span.start for span in spans} == {spans[0].end - spans[0].start}


def test_of_spans_that_overlap_the_first_found_stays() -> None:
    spans = [
        PersonalSpan(5, 9, "a"),
        PersonalSpan(0, 5, "b"),
        PersonalSpan(8, 12, "c"),
        PersonalSpan(4, 6, "d"),
        PersonalSpan(5, 9, "e"),
        PersonalSpan(9, 10, "f"),
    ]
    assert remove_overlaps(spans) == [
        PersonalSpan(0, 5, "b"),
        PersonalSpan(5, 9, "a"),
        PersonalSpan(9, 10, "f"),
    ]


def test_a_long_answer_is_cut_without_measuring_all_of_it_over_and_over() -> None:
    row = CanonicalRow(("user", "assistant"), ("q", "word " * 200_000), "", None, None)
    measured = []

    def measure(rows: list[CanonicalRow]) -> object:
        measured.append(len(rows[0].text))
        return _count_words(rows)

    for most in (2, 3, 50, 1000, 199_999):
        made = _shorten_answer(row, most, measure)
        assert made is not None
        assert len(made.text.split()) == most
    assert _shorten_answer(row, 1, measure) is None
    measured.clear()
    _shorten_answer(row, 1000, measure)
    assert max(measured) < 3 * 5 * 1000


def test_rows_are_read_and_written_by_their_bytes_not_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of thousands of rows of a megabyte each would not fit into memory."""
    monkeypatch.setattr(dataset_writer, "FLUSH_BYTES", 100_000)
    monkeypatch.setattr(recipe_run, "FLUSH_BYTES", 100_000)
    home = Home(tmp_path / "home").create()
    dataset = make(home, [chat(f"q{n}", f"{n} " + "word " * 1_000) for n in range(50)])
    rows = home.rows(dataset["fingerprint"])
    job = make_job(home, "clean", {})
    work = working_rows.WorkingRows(job, dataset, {}, job.dir.temporary)
    first = working_rows.WorkingRows(job, dataset, {}, job.dir.temporary / "first", limit=40)
    for read, count in ((work.scan(), 50), (first.scan(), 40), (make_reader(rows)(["text"]), 50)):
        sizes = [batch.num_rows for batch in read]
        assert (sum(sizes), max(sizes) < 10) == (count, True)
    made = run(home, dataset, {"step": "fix_encoding"})
    file = pq.ParquetFile(home.rows(made.result["fingerprint"]))
    assert max(file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)) < 10
    assert len(made.rows) == 50
