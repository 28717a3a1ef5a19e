"""Versions: the tree, what became of every row, two of them side by side; recipes in words and in YAML."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.job_handlers import store_result
from store.core.errors import ConfigError, StateError
from store.core.home import Home
from store.core.schemas import Job
from store.data import dataset_versions, datasets
from store.data.cleaning import Recipe
from store.data.cleaning_text import describe_filter, describe_step
from store.data.config import CleanConfig
from store.data.dataset_versions import FateFilter
from store.data.filters import Filter
from store.db.database import Database
from tests.unit.data_job import read
from tests.unit.recipe_samples import chat, make, run
from tests.unit.store_samples import add_job, new_dataset, new_store, row_of

Document = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Home, Database]]:
    home, database = new_store(tmp_path / "home")
    yield home, database
    database.close()


def insert(database: Database, dataset: Document) -> None:
    """Record a data set that was made by `make`."""
    with database.transaction() as tx:
        names = ("dataset_id", "fingerprint", "kind", "format", "columns", "row_count", "name")
        datasets.insert_dataset(tx, new_dataset(**{name: dataset[name] for name in names}))


def grow(
    home: Home, database: Database, parent: Document, name: str, *steps: Document, **mixed: Any
) -> Document:
    """Clean `parent` and keep the result as the engine does; what a worker is told of the new version."""
    made = run(home, parent, *steps, mixed=mixed.get("mixed")).result
    config = CleanConfig.parse(
        {"dataset": parent["dataset_id"], "name": name, "recipe": {"steps": list(steps)}}
    )
    asked = config.model_dump(exclude_none=True)
    job = row_of(Job, job_id=f"job-{name}", kind="clean", created_by="p-ada", config=asked)
    with database.transaction() as tx:
        store_result(tx, home, job, made, time.time())
    fields = {key: made[key] for key in ("fingerprint", "kind", "format", "columns", "row_count")}
    return {**parent, **fields, "dataset_id": f"data-{name}", "name": name, "signals": {}}


def family(home: Home, database: Database) -> dict[str, Document]:
    """root -> a (drops row 0, strips) -> b (drops one, edits one); root -> c (strips, mixes in)."""
    root = make(home, [chat(f"q{n}", f" a{n}") for n in range(6)], name="root")
    insert(database, root)
    drop = {"step": "filter", "where": {"row_ids": [0]}, "reason": "first"}
    a = grow(home, database, root, "a", drop, {"step": "strip"})
    edit = {"step": "edit_rows", "edits": [{"row_id": 3, "label": "new"}]}
    b = grow(home, database, a, "b", {"step": "filter", "where": {"search": "q3"}}, edit)
    other = make(home, [chat("extra", "yes"), chat("more", "no")], name="Other")
    mix = {"step": "mix", "dataset": "Other", "share": 0.25}
    c = grow(home, database, root, "c", {"step": "strip"}, mix, mixed={"Other": other})
    return {"root": root, "a": a, "b": b, "c": c}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database, dict[str, Document]]]:
    """A store with the family, for tests that only look at it."""
    home, database = new_store(tmp_path_factory.mktemp("grown") / "home")
    yield home, database, family(home, database)
    database.close()


def test_the_tree_holds_the_family_alone_with_recipes_and_runs(store: tuple[Home, Database]) -> None:
    home, database = store
    family(home, database)
    insert(database, make(home, [chat("x", "y")], name="Stranger"))
    add_job(database, "run1", status="finished")
    with database.transaction() as tx:
        tx.execute("UPDATE run SET dataset_id = 'data-b'")
    for start in ("root", "b", "data-c"):
        tree = dataset_versions.tree(database, start)
        assert [(row.name, row.depth) for row in tree] == [("root", 0), ("a", 1), ("b", 2), ("c", 1)]
    assert tree[1].titles == ["Drop rows where the row is 0", "Strip white space"]
    assert tree[1].fates.changed == 5
    assert [row.created_by for row in tree] == [None, "p-ada", "p-ada", "p-ada"]  # who asked for the job
    assert [run.name for run in tree[2].runs] == ["Run1"]
    assert [row.name for row in dataset_versions.list_lineage(database, "b")] == ["root", "a", "b"]


def test_fates_are_searched_by_fate_step_and_text(
    grown: tuple[Home, Database, dict[str, Document]],
) -> None:
    _, database, _ = grown
    everything = dataset_versions.fates(database, "c")
    assert everything.total == len(everything.rows) == 8
    assert [row.row_id for row in everything.rows] == list(range(8))
    dropped = dataset_versions.fates(database, "a", FateFilter(fate="dropped"))
    assert [(row.before, row.after, row.reason) for row in dropped.rows] == [("q0\n\n a0", None, "first")]
    assert dataset_versions.fates(database, "a", FateFilter(step=1)).total == 5
    assert dataset_versions.fates(database, "a", FateFilter(step=0)).total == 1
    matches = dataset_versions.fates(database, "c", FateFilter(search="EXTRA"))
    assert [(row.before, row.after, row.fate) for row in matches.rows] == [(None, "extra\n\nyes", "added")]
    assert dataset_versions.fates(database, "a", FateFilter(search="FIRST")).total == 1
    assert dataset_versions.fates(database, "c", FateFilter(search="row 1 of other", fate="added")).total == 1
    pages = [dataset_versions.fates(database, "c", limit=3, offset=at).rows for at in (0, 3, 6)]
    assert [row for page in pages for row in page] == everything.rows
    with pytest.raises(StateError, match="root was imported"):
        dataset_versions.fates(database, "root")


@pytest.mark.parametrize("first", ["root", "a", "b", "c"])
@pytest.mark.parametrize("second", ["root", "a", "b", "c"])
def test_any_two_versions_are_compared_row_by_row(
    grown: tuple[Home, Database, dict[str, Document]], first: str, second: str
) -> None:
    home, database, made = grown
    comparison = dataset_versions.compare(database, first, second, limit=100)
    ours, theirs = (read(home.rows(made[name]["fingerprint"])) for name in (first, second))
    counts = comparison.counts
    assert counts.kept + counts.changed + counts.dropped == len(ours)
    assert counts.kept + counts.changed + counts.added == len(theirs)
    question = {row["text"].split("\n")[0]: (row["text"], row["label"]) for row in ours}
    other = {row["text"].split("\n")[0]: (row["text"], row["label"]) for row in theirs}
    both = question.keys() & other.keys()
    assert counts.kept == sum(question[name] == other[name] for name in both)
    assert counts.dropped == len(question.keys() - other.keys())
    assert comparison.total == counts.changed + counts.dropped + counts.added == len(comparison.rows)
    for row in comparison.rows:
        assert (row.before is None) == (row.fate == "added")
        assert (row.after is None) == (row.fate == "dropped")
        if row.before:
            assert row.before["text"] == ours[row.row_id]["text"]
        if row.fate == "changed":
            assert row.before != row.after
    kept = dataset_versions.compare(database, first, second, fate="kept", limit=1)
    assert (kept.total, len(kept.rows)) == (counts.kept, min(1, counts.kept))


def test_strangers_are_not_compared(store: tuple[Home, Database]) -> None:
    home, database = store
    for name in ("One", "Two"):
        insert(database, make(home, [chat("x", name)], name=name))
    with pytest.raises(ConfigError, match="One and Two are not versions of one data set"):
        dataset_versions.compare(database, "One", "Two")


STEPS = [
    ({"step": "fix_encoding"}, "Fix broken characters"),
    ({"step": "normalise", "unicode": "none"}, "Normalize line ends and white space"),
    ({"step": "strip", "html": True, "boilerplate": True}, "Strip white space, HTML and boilerplate"),
    (
        {"step": "map_columns", "format": "text", "columns": {"text": "body"}},
        "Read as plain text: text = body",
    ),
    (
        {"step": "drop_duplicates", "kind": "near", "keep": "longest_answer"},
        "Drop near duplicates (0.7), keep the longest answer",
    ),
    ({"step": "redact", "kinds": ["email", "ip"]}, "Redact e-mail addresses and IP addresses"),
    ({"step": "cap_length", "most": 1024, "model": "M"}, "Drop rows longer than 1,024 tokens of M"),
    ({"step": "cap_length", "most": 9, "unit": "words", "action": "cut"}, "Cut rows longer than 9 words"),
    ({"step": "balance"}, "Balance label to its rarest value"),
    ({"step": "balance", "most": 1, "column": "cluster"}, "At most 1 row of each topic"),
    ({"step": "sample", "rows": 1000, "by": "diversity"}, "Sample 1,000 rows spread over topics"),
    ({"step": "label_errors"}, "Drop suspected label errors"),
    ({"step": "label_errors", "action": "suggested", "most": 5}, "Correct the 5 most suspicious labels"),
    ({"step": "mix", "dataset": "Prose", "share": 0.1}, "Mix in Prose (10%)"),
    ({"step": "edit_rows", "edits": [{"row_id": 1, "text": "x"}]}, "Edit 1 row by hand"),
    (
        {"step": "filter", "where": {"search": "x", "conditions": [{"column": "html", "value": True}]}},
        'Drop rows where the text contains "x" and HTML was found',
    ),
]


@pytest.mark.parametrize(("step", "expected_title"), STEPS)
def test_a_step_has_a_title_in_plain_words(step: Document, expected_title: str) -> None:
    assert describe_step(Recipe.parse({"steps": [step]}).steps[0]) == expected_title


def test_filters_in_words() -> None:
    conditions = [
        {"column": "language", "value": ["de", "en"]},
        {"column": "words", "op": "between", "value": [1, 5]},
        {"column": "near_group", "op": "is not", "value": None},
        {"column": "label", "op": "is empty"},
    ]
    where = Filter.parse({"conditions": conditions, "row_ids": [1, 2], "expression": "a\n > 1"})
    assert describe_filter(where) == (
        "language is German or English and words is from 1 to below 5 and the row has near duplicates"
        " and label is empty and the row is one of 2 (1, 2) and a > 1"
    )
    assert describe_filter(Filter()) == "all rows"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@example("a\u2028 b", "\x85")  # line ends of YAML that are none elsewhere
@given(TEXT, TEXT)
def test_recipes_and_cleanings_survive_yaml(text: str, label: str) -> None:
    edit = {"row_id": 3, "messages": [{"role": "user", "content": text}], "label": label}
    steps = [*(step for step, _ in STEPS), {"step": "edit_rows", "edits": [edit]}]
    recipe = Recipe.parse({"steps": steps})
    assert recipe.steps[-1].edits[0].messages[0]["content"] == text  # white space is kept
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    config = CleanConfig.parse({"dataset": "D", "recipe": recipe.model_dump()})
    assert CleanConfig.from_yaml(config.to_yaml()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: []", "steps"),
        ("steps:\n- step: explode", "explode"),
        ("steps:\n- step: filter\n  where: {}", "where is empty"),
        ("steps:\n- step: redact\n  kinds: [dreams]", "dreams can't be redacted"),
        ("steps:\n- step: edit_rows\n  edits: [{row_id: 1}]", "row 1 has no messages"),
        ("steps:\n- step: sample\n  rows: 0", "rows"),
        ("steps: [", "not valid YAML"),
        ("- step: strip", "not a mapping"),
    ],
)
def test_a_bad_recipe_names_what_is_bad(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.from_yaml(text)
