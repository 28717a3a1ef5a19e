"""Duplicates: groups against brute force, rows that are too short, prompts, large clusters."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.similarity import prompts_and_answers
from engine.data.similarity.equality import hash_folded_text
from engine.data.similarity.minhash_clusters import Sketches, choose_bands, find_clusters
from engine.data.similarity.text_overlap import build_shingle_sets
from engine.worker.job import JobCancelled
from store.core.home import Home
from store.data.dataset_files import LATER, SCHEMA
from store.data.signals import GROUPS
from tests.unit.measured import WORDS, compute, sentence

Turns = list[tuple[str, str]]


def rows_file(path: Path, rows: list[Turns] | list[str]) -> Path:
    """rows.parquet of conversations or plain texts, in row groups of a few rows."""
    chat = bool(rows) and not isinstance(rows[0], str)
    texts = ["\n\n".join(content for _, content in row) if chat else row for row in rows]
    numbers = [int.from_bytes(hash_folded_text(text), "little") for text in texts]
    messages = (
        [[{"role": role, "content": content} for role, content in row] for row in rows] if chat else None
    )
    columns = {
        "row_id": list(range(len(rows))),
        "line": list(range(1, len(rows) + 1)),
        "messages": messages or [None] * len(rows),
        "text": texts,
        "label": [None] * len(rows),
        "rejected": [None] * len(rows),
        "digest": numbers,
        "source": ["{}"] * len(rows),
        **{name: [None] * len(rows) for name in LATER},
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), path, row_group_size=7)
    return path


def measure(home: Home, tmp_path: Path, rows: list[Turns] | list[str]) -> tuple[dict[str, list], dict]:
    table, figures = compute(home, rows_file(tmp_path / "rows.parquet", rows))
    return table.to_pydict(), {name: figure["value"] for name, figure in figures.items()}


def asked(prompt: str, answer: str) -> Turns:
    return [("user", prompt), ("assistant", answer)]


def test_every_kind_of_group(home: Home, tmp_path) -> None:
    long = sentence(1, 40)
    rows = [
        asked(long, "Yes."),
        asked(sentence(2, 9), "Two."),
        asked(long.upper(), "  yes. "),
        asked(long + " indeed so", "Yes."),
        asked(sentence(2, 9), sentence(3, 30)),
        asked(sentence(4, 30), "Four."),
        asked(sentence(2, 9), "Two."),
    ]
    columns, figures = measure(home, tmp_path, rows)
    assert list(columns) == ["row_id", *(signal.column for signal in GROUPS["duplicates"].signals)]
    assert columns["row_id"] == list(range(7))
    assert columns["exact_group"] == [None, 1, None, None, None, None, 1]  # "YES." is not "yes."
    assert columns["folded_group"] == [0, 1, 0, None, None, None, 1]
    assert columns["near_group"] == [0, 1, 0, 0, None, None, 1]
    assert columns["near_similarity"][:3] == [1.0, 1.0, 1.0]
    assert 0.7 <= columns["near_similarity"][3] < 1
    assert columns["near_similarity"][4] is None
    assert columns["prompt_group"] == [0, 1, 0, None, 1, None, 1]
    assert columns["conflict"] == [False, True, False, False, True, False, True]
    assert columns["references"] == [False] * 7
    wanted = {"exact_duplicates": 1, "near_duplicates": 3, "same_prompt": 3, "conflicts": 3}
    wanted |= {"near_conflicts": 0, "references": 0, "answers": 2, "uncompared": 0}
    assert figures == wanted


def test_the_system_turn_makes_nobody_alike(home: Home, tmp_path) -> None:
    system = ("system", sentence(1, 300))
    rows = [[system, *asked(sentence(n, 12), f"Answer {n}.")] for n in range(2, 6)]
    rows.append([("system", "Be brief."), *rows[0][1:]])
    columns, _ = measure(home, tmp_path, rows)
    assert columns["near_group"] == [0, None, None, None, 0]
    assert columns["exact_group"] == [None] * 5
    assert columns["prompt_group"] == [None] * 5  # the system turn is part of what was asked


def test_short_rows_and_rows_without_words(home: Home, tmp_path) -> None:
    rows = ["yes", "Yes!", "no", "!!!", "???", "yes yes", "我们 都 好", "我们都好"]
    columns, figures = measure(home, tmp_path, rows)
    assert columns["near_group"] == [0, 0, None, None, None, None, 6, 6]
    assert columns["exact_group"] == [None] * 8
    assert columns["prompt_group"] == [None] * 8
    assert not any(columns["conflict"])
    assert figures["near_duplicates"] == 2


def test_signs_that_carry_meaning_tell_rows_apart(home: Home, tmp_path) -> None:
    columns, _ = measure(
        home, tmp_path, ["what is 3 + 4", "what is 3 - 4", "What is 3 + 4?", "what is 3 * 4"]
    )
    assert columns["near_group"] == [0, None, 0, None]


@pytest.mark.parametrize("rows", [[], [asked("a", "b")], ["!!!", "???"], ["a b c d e"]])
def test_rows_that_nothing_can_be_compared_with(home: Home, tmp_path, rows: list) -> None:
    columns, figures = measure(home, tmp_path, rows)
    for name in ("exact_group", "near_group", "near_similarity", "prompt_group"):
        assert columns[name] == [None] * len(rows)
    assert columns["conflict"] == [False] * len(rows)
    assert set(figures.values()) == {0}


def shingles_by_hand(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    if len(words) < 5:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from(["ab", "Cé", "ß", "9_x"]), max_size=12).map(" ".join), max_size=20))
def test_sets_of_shingles_are_those_of_words(texts: list[str]) -> None:
    sets = build_shingle_sets(texts)
    parts = np.split(sets.values, sets.offsets[1:-1]) if texts else []
    hands = [shingles_by_hand(text) for text in texts]
    assert [len(part) for part in parts] == [len(hand) for hand in hands]
    for first_shingles, first in zip(parts, hands, strict=True):
        for second_shingles, second in zip(parts, hands, strict=True):
            assert len(np.intersect1d(first_shingles, second_shingles)) == len(first & second)


def jaccard(first: set, second: set) -> float:
    return len(first & second) / len(first | second) if first or second else 0.0


def edited(words: list[str], share: float, draw: random.Random) -> list[str]:
    return [draw.choice(WORDS) if draw.random() < share else word for word in words]


def test_against_brute_force(tmp_path) -> None:
    draw = random.Random(5)
    texts: list[str] = []
    for seed in range(120):
        words = sentence(seed, draw.randint(20, 60)).split()
        texts += [" ".join(edited(words, share, draw)) for share in (0, 0.005, 0.02, 0.05)]
    hands = [shingles_by_hand(text) for text in texts]
    true = {
        (a, b): value
        for a in range(len(texts))
        for b in range(a + 1, len(texts))
        if (value := jaccard(hands[a], hands[b])) >= 0.7
    }
    with Sketches(0.7, tmp_path) as sketches:
        for begin in range(0, len(texts), 50):
            sketches.add(sketches.sketch(texts[begin : begin + 50]))
        sketches.close()
        clustering = find_clusters(sketches, lambda *_: None)
    pairs = {(min(a, b), max(a, b)): s for a, b, s in zip(*clustering.pairs, strict=True)}
    assert set(pairs) <= set(true)  # each was verified
    assert all(value == pytest.approx(true[pair]) for pair, value in pairs.items())
    together = sum(clustering.label[a] == clustering.label[b] for a, b in true)
    assert len(true) > 150
    assert together >= 0.98 * len(true)
    assert np.array_equal(
        clustering.label[clustering.label], clustering.label
    )  # named by a member, the first
    assert np.all(clustering.label <= np.arange(len(texts)))
    paired = np.isin(np.arange(480), np.concatenate(clustering.all_pairs()[:2]))
    assert np.array_equal(paired, np.bincount(clustering.label, minlength=480)[clustering.label] > 1)


@pytest.mark.parametrize(("shared", "own", "clusters"), [(60, 1, 1), (45, 15, 3000)])
def test_large_buckets_do_not_go_quadratic(
    tmp_path, monkeypatch, shared: int, own: int, clusters: int
) -> None:
    rows = 3000
    base = sentence(0, shared)
    texts = [f"{base} {sentence(n + 1, own)} {n}" for n in range(rows)]
    looked_at = []
    whole = Sketches.jaccard
    monkeypatch.setattr(Sketches, "jaccard", lambda self, a, b: looked_at.append(len(a)) or whole(self, a, b))
    with Sketches(0.7, tmp_path) as sketches:
        sketches.add(sketches.sketch(texts))
        sketches.close()
        clustering = find_clusters(sketches, lambda *_: None)
    assert len(np.unique(clustering.label)) == clusters
    assert sum(looked_at) < 100 * rows  # all pairs would be 1,500 a row


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_what_is_at_the_threshold(threshold: float) -> None:
    r, b = choose_bands(threshold)
    assert 1 - (1 - threshold**r) ** b >= 0.99  # the probability that such a pair shares a band
    assert r * b <= 160
    assert choose_bands(0.7) == (5, 26)


def test_another_threshold_joins_other_rows(home: Home, tmp_path) -> None:
    words = sentence(1, 40).split()
    rows = [" ".join(words), " ".join([*words[:20], "other", *words[21:]])]  # 31 of 41 shingles
    path = rows_file(tmp_path / "rows.parquet", rows)
    assert compute(home, path, 0.9)[0]["near_group"].null_count == 2
    low, _ = compute(home, path, 0.7)
    assert low["near_group"].to_pylist() == [0, 0]
    assert low["near_similarity"].to_pylist() == pytest.approx([31 / 41] * 2)


def test_a_job_that_is_cancelled_leaves_nothing(home: Home, tmp_path) -> None:
    path = rows_file(tmp_path / "rows.parquet", [sentence(n % 90, 20) for n in range(100)])

    def stop(done: int, total: int, unit: str = "rows", message: str = "") -> None:
        if unit == "bands":
            raise JobCancelled

    with pytest.raises(JobCancelled):
        compute(home, path, tell=stop)
    job = next(home.jobs.iterdir())
    assert {file.name for file in job.iterdir()} == {"config.json", "events.jsonl"}


def test_batches_are_the_same_as_the_whole(home: Home, tmp_path, monkeypatch) -> None:
    rows = [asked(sentence(n % 13, 25), sentence(n % 7, 4)) for n in range(60)]
    path = rows_file(tmp_path / "rows.parquet", rows)
    whole = compute(home, path)
    monkeypatch.setattr(prompts_and_answers, "BATCH", 3)
    assert compute(home, path) == whole


def labelled(path: Path, rows: list[tuple[str, str]]) -> Path:
    """rows.parquet of texts whose answer is their label."""
    rows_file(path, [asked(text, label) for text, label in rows])
    table = pq.read_table(path)
    labels = pa.array([label for _, label in rows])
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", labels), path)
    return path


def test_exact_is_exact_and_code_in_another_indentation_is_not(home: Home, tmp_path) -> None:
    rows = ["if a:\n    b()\nc()", "if a:\n    b()\n    c()", "the variable N", "the variable n"]
    rows += ["Café", "Cafe\u0301", "x² is", "x2 is"]
    columns, figures = measure(home, tmp_path, rows)
    # one accent, typed in two ways
    assert columns["exact_group"] == [None, None, None, None, 4, 4, None, None]
    assert columns["folded_group"] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert figures["exact_duplicates"] == 1


def test_a_near_duplicate_is_similar_to_the_row_that_stands_for_it(home: Home, tmp_path) -> None:
    words = sentence(1, 120).split()
    rows, present = [], list(words)
    for step in range(40):  # a chain: each text has a stretch of the one before replaced
        rows.append(" ".join(present))
        present[3 * step : 3 * step + 3] = sentence(100 + step, 3).split()
    columns, figures = measure(home, tmp_path, rows)
    assert set(columns["near_chain"]) == {0}
    hands = [shingles_by_hand(text) for text in rows]
    for row, group in enumerate(columns["near_group"]):
        if group is not None and group != row:
            value = jaccard(hands[row], hands[group])
            assert value >= 0.7
            assert columns["near_similarity"][row] == pytest.approx(value, abs=1e-6)
    assert jaccard(hands[0], hands[-1]) < 0.3
    assert 0 < figures["near_duplicates"] < 39


def test_rows_of_another_label_are_conflicts_and_no_near_duplicates(home: Home, tmp_path) -> None:
    text = sentence(1, 60)
    rows = [(f"{text} {n}", "up" if n % 2 else "down") for n in range(6)]
    table, figures = compute(home, labelled(tmp_path / "rows.parquet", rows))
    assert table["near_group"].to_pylist() == [0, 1, 0, 1, 0, 1]
    assert table["near_chain"].to_pylist() == [0] * 6
    assert table["near_conflict"].to_pylist() == [True] * 6
    assert figures["near_conflicts"]["value"] == 6


def test_rows_with_another_answer_are_conflicts_too(home: Home, tmp_path) -> None:
    question = sentence(1, 60)
    long = sentence(2, 60)
    rows = [asked(question, "Yes, always."), asked(question + " now", "No, never.")]
    rows += [asked(question + " then", long), asked(question + " there", long + " indeed")]
    columns, _ = measure(home, tmp_path, rows)
    assert columns["near_group"] == [None, None, 2, 2]
    assert columns["near_conflict"][:2] == [True, True]


def template(count: int, labels: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts made from one template with slots, and labels that go by none of them."""
    draw = random.Random(seed)
    stem = sentence(1, 60).split()
    made = []
    for _ in range(count):
        words = list(stem)
        for slot in (5, 15, 25, 35, 45):
            words[slot] = draw.choice(WORDS[:4])
        made.append((" ".join(words), f"label {draw.randrange(labels)}"))
    return made


def test_of_many_templated_rows_every_one_that_goes_is_similar_and_of_one_label(home: Home, tmp_path) -> None:
    rows = template(3000, 7)
    table, _ = compute(home, labelled(tmp_path / "rows.parquet", rows))
    stands = table["near_group"].to_pylist()
    hands = [shingles_by_hand(f"{text} {label}") for text, label in rows]
    gone = [row for row, group in enumerate(stands) if group is not None and group != row]
    assert len(gone) > 200
    assert all(rows[row][1] == rows[stands[row]][1] for row in gone)
    assert min(jaccard(hands[row], hands[stands[row]]) for row in gone) >= 0.7


@pytest.mark.parametrize(
    ("answers", "conflict"),
    [
        (["Paris.", "Lyon."], True),
        (["It is 72.", "It is 74."], True),
        (["Yes, it is.", "No, it isn't."], True),
        (["The capital of Australia is Sydney.", "The capital of Australia is Canberra."], True),
        (["A red fruit that grows on trees.", "It's a red fruit which grows on a tree."], False),
        (["Paris", "paris"], None),  # the same answer
    ],
)
def test_answers_that_contradict_and_answers_that_agree(
    home: Home, tmp_path, answers: list[str], conflict: bool | None
) -> None:
    prompt = "What is the capital of Australia, or an apple?"
    others = [asked(sentence(n, 9), sentence(n + 100, 9)) for n in range(20)]
    columns, figures = measure(home, tmp_path, [*(asked(prompt, answer) for answer in answers), *others])
    assert columns["conflict"][:2] == [conflict is True] * 2
    assert columns["references"][:2] == [conflict is False] * 2
    assert not any(columns["conflict"][2:])
    assert figures["answers"] == (0 if conflict is None else 2)


def test_many_references_for_each_prompt_are_a_kind_of_data(home: Home, tmp_path) -> None:
    rows = [asked(sentence(n, 8), sentence(100 * n + k, 12)) for n in range(30) for k in range(1, 6)]
    columns, figures = measure(home, tmp_path, rows)
    assert all(columns["references"])
    assert not any(columns["conflict"])
    assert (figures["references"], figures["answers"]) == (150, 5)


def test_labels_never_agree_and_pairs_conflict_where_they_are_turned(home: Home, tmp_path) -> None:
    rows = [("one text", "sad"), ("one text", "sadness"), ("other", "sad")]
    table, _ = compute(home, labelled(tmp_path / "rows.parquet", rows))
    assert table["conflict"].to_pylist() == [True, True, False]
    path = rows_file(tmp_path / "pairs.parquet", [asked("q", "a"), asked("q", "b"), asked("q", "c")])
    pairs = pq.read_table(path)
    at = pairs.schema.get_field_index("rejected")
    pq.write_table(pairs.set_column(at, "rejected", pa.array(["b", "a", "d"])), path)
    table, _ = compute(home, path)
    assert table["conflict"].to_pylist() == [True, True, False]
