"""Every step of a recipe: what it keeps, changes and drops, and why."""

from __future__ import annotations

from typing import Any

import pytest

from store.core.home import Home
from store.core.row_schemas import StepCounts
from tests.unit.recipe_samples import chat, make, measure, run

ROWS = [chat("a?", "one"), chat("b?", "two"), chat("c?", "three")]


def test_broken_characters_are_repaired_and_nothing_else(home: Home) -> None:
    typed = "“Curly” – it’s &amp; ﬁne\tＡ"  # quotes, ligatures and entities are what somebody wrote
    rows = [
        chat("q", "schÃ¶n"),
        chat("q", "a\x00b\x1bc".replace("\x00", "\x01")),
        chat("q", typed),
        chat("â€™", "x"),
    ]
    made = run(home, make(home, rows), {"step": "fix_encoding"})
    assert made.texts == ["q\n\nschön", "q\n\nabc", f"q\n\n{typed}", "’\n\nx"]
    assert [change[:3] for change in made.changes] == [
        (0, "changed", 0),
        (1, "changed", 0),
        (3, "changed", 0),
    ]


def test_normalising_keeps_indentation_and_one_blank_line(home: Home) -> None:
    code = "def f():\n    return  1  \n\n\n\n\nf()\t\r\nx\u00a0\u00a0y\rend"
    rows = [chat("Cafe\u0301 ﬁ", code), chat("plain", "text")]
    made = run(home, make(home, rows), {"step": "normalise"})
    assert made.texts == ["Café ﬁ\n\ndef f():\n    return 1\n\nf()\nx y\nend", "plain\n\ntext"]
    form = run(home, make(home, rows), {"step": "normalise", "unicode": "NFKC", "white_space": False})
    assert form.texts[0].startswith("Café fi\n\ndef f():\n    return  1  \n\n\n")
    none = run(home, make(home, rows), {"step": "normalise", "unicode": "none"})
    assert none.texts[0].startswith("Cafe\u0301 ﬁ\n\n")


def test_stripping_takes_tags_and_boilerplate_but_no_code(home: Home) -> None:
    rows = [
        chat("  q ", "\n a \n"),
        chat("q", "<p>One &amp; <b>two</b></p><p>three</p><!-- x --><script>bad()</script>"),
        chat("q", "List<String> x = a < b;"),
        chat("q", "See:\n```html\n<div>&amp;</div>\n```\n<div>out</div>"),
        chat("q", "Text.\nSubscribe to our newsletter!\nMore text."),
    ]
    plain = run(home, make(home, rows), {"step": "strip"})
    assert [change[0] for change in plain.changes] == [0]
    assert plain.texts[0] == "q\n\na"
    made = run(home, make(home, rows), {"step": "strip", "html": True, "boilerplate": True})
    assert [row["messages"][-1]["content"] for row in made.rows] == [
        "a",
        "One & two\n\nthree",
        "List<String> x = a < b;",
        "See:\n```html\n<div>&amp;</div>\n```\n\nout",
        "Text.\nMore text.",
    ]


def test_a_row_of_which_nothing_is_left_is_dropped_with_the_reason(home: Home) -> None:
    rows = [*ROWS, chat("q", "<br>"), chat("<p> </p>", "a"), chat("x", "y", system="<hr>")]
    dataset = make(home, rows)
    made = run(home, dataset, {"step": "strip", "html": True})
    assert made.changes == [
        (3, "dropped", 0, "nothing is left of an answer"),
        (4, "dropped", 0, "nothing is left of a question"),
        (5, "changed", 0, ""),
    ]
    assert [turn["role"] for turn in made.rows[3]["messages"]] == ["user", "assistant"]


def test_labels_follow_the_answer_that_they_are(home: Home) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(["spÃ¤t", "early", "early"])]
    made = run(home, make(home, rows), {"step": "fix_encoding"})
    assert [row["label"] for row in made.rows] == ["spät", "early", "early"]
    assert made.rows[0]["messages"][-1]["content"] == "spät"


def test_texts_digests_and_rejected_answers_are_made_anew(home: Home) -> None:
    rows = [
        {"prompt": "p", "chosen": " good", "rejected": "bad "},
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {"prompt": "p", "chosen": "good", "rejected": "b"},  # another pair
    ]
    made = run(home, make(home, rows), {"step": "strip"}, {"step": "drop_duplicates"})
    assert made.rows[0]["rejected"] == "bad"
    assert made.changes == [(0, "changed", 0, ""), (1, "dropped", 1, "the same text as row 0")]
    texts = run(home, make(home, [{"text": " a "}, {"text": "b"}]), {"step": "strip"})
    assert (texts.texts, texts.rows[0]["messages"]) == (["a", "b"], None)


def test_columns_are_mapped_anew_from_the_file(home: Home) -> None:
    rows = [chat("q1", "a1", topic="x", more="m"), chat("q2", "a2", topic=""), chat("q3", "a3", topic="z")]
    columns = {"text": "question", "label": "topic"}
    made = run(home, make(home, rows), {"step": "map_columns", "format": "text_label", "columns": columns})
    assert made.texts == ["q1\n\nx", "q3\n\nz"]
    assert made.changes == [(0, "changed", 0, ""), (1, "dropped", 0, "topic is empty"), (2, "changed", 0, "")]
    assert (made.result["format"], made.result["columns"]) == ("text_label", columns)
    assert [row["label"] for row in made.rows] == ["x", "z"]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({"search": "TWO"}, [1]),
        ({"regex": "^[ab]"}, [0, 1]),
        ({"row_ids": [2, 0, 77]}, [0, 2]),
        ({"conditions": [{"column": "words", "op": ">=", "value": 20}]}, [1]),
        ({"conditions": [{"column": "html", "op": "is", "value": True}]}, [2]),
        ({"conditions": [{"column": "source.topic", "op": "is", "value": "x"}]}, [0]),
        (
            {"conditions": [{"column": "answer", "op": "matches", "value": "^t"}], "expression": "turns = 2"},
            [1, 2],
        ),
        ({"expression": "words > 5 OR \"source.topic\" = 'x'"}, [0, 1]),
        ({"expression": "WORDS IS NULL -- not measured"}, [2]),
        ({"expression": "line = 2 AND len(prompt) = 2 AND label IS NULL"}, [1]),
    ],
)
def test_filters_see_texts_columns_of_the_file_and_signals(
    home: Home, where: dict[str, Any], left: list[int]
) -> None:
    dataset = make(home, [chat("a?", "one", topic="x"), chat("b?", "two"), chat("c?", "three")])
    measure(home, dataset, "text", words=[10, 20, None], html=[False, None, True])
    kept = run(home, dataset, {"step": "filter", "where": where, "action": "keep", "reason": "why"})
    assert [fate["parent_row_id"] for fate in kept.fates if fate["fate"] == "kept"] == left
    assert {change[1:] for change in kept.changes} == {("dropped", 0, "why")}
    dropped = run(home, dataset, {"step": "filter", "where": where})
    assert [change[0] for change in dropped.changes] == left
    assert all(change[3] for change in dropped.changes)


def test_a_filter_sees_texts_as_they_are_by_then(home: Home) -> None:
    steps = [{"step": "strip"}, {"step": "filter", "where": {"expression": "answer = 'x'"}}]
    made = run(home, make(home, [chat("q", " x "), chat("q", "y")]), *steps)
    assert made.texts == ["q\n\ny"]
    assert made.fates[0]["steps"] == [0]  # it was changed before it was dropped
    assert (made.fates[0]["fate"], made.fates[0]["step"]) == ("dropped", 1)


LONG = (
    "the quick brown fox jumps over the lazy dog and runs away from the very old cat into the dark green wood"
)


@pytest.mark.parametrize(
    ("step", "dropped"),
    [
        ({"kind": "exact"}, {}),
        ({"kind": "folded"}, {1: "equal, except for case and spacing, to row 0"}),
        (
            {"kind": "near"},
            {
                1: "near duplicate of row 0 (similarity 1.00)",
                2: "near duplicate of row 0 (similarity 0.78)",
            },
        ),
        ({"kind": "prompt"}, {1: "the same prompt as row 0", 4: "the same prompt as row 3"}),
        (
            {"kind": "prompt", "keep": "longest_answer"},
            {1: "the same prompt as row 0", 3: "the same prompt as row 4"},
        ),
        (
            {"kind": "prompt", "keep": "shortest_answer"},
            {0: "the same prompt as row 1", 4: "the same prompt as row 3"},
        ),
    ],
)
def test_one_of_each_group_of_duplicates_stays(
    home: Home, step: dict[str, Any], dropped: dict[int, str]
) -> None:
    rows = [
        chat("Tell me", LONG + " "),
        chat("tell  ME", LONG.upper()),
        chat("Say it", LONG + " today"),
        chat("What is 1 + 1?", "2"),
        chat("What is 1 + 1?", "It is two."),
    ]
    made = run(home, make(home, rows), {"step": "drop_duplicates", **step})
    assert {change[0]: change[3] for change in made.changes} == dropped


def test_redaction_puts_placeholders_in_every_turn(home: Home) -> None:
    rows = [chat("I am a@b.com", "Call 4111 1111 1111 1111, x@y.org"), chat("q", "no @ here")]
    made = run(home, make(home, rows), {"step": "redact", "kinds": ["email", "card"]})
    assert made.texts == ["I am [EMAIL]\n\nCall [CARD], [EMAIL]", "q\n\nno @ here"]
    assert [change[:3] for change in made.changes] == [(0, "changed", 0)]


def test_long_rows_are_dropped_or_cut_at_a_word(home: Home) -> None:
    rows = [chat("one two", "three  four\nfive six seven eight nine"), chat("a", "b"), chat("w " * 9, "x y")]
    dataset = make(home, rows)
    step = {"step": "cap_length", "most": 8, "unit": "words"}
    made = run(home, dataset, step)
    assert made.changes == [
        (0, "dropped", 0, "longer than 8 words: 9"),
        (2, "dropped", 0, "longer than 8 words: 11"),
    ]
    cut = run(home, dataset, {**step, "action": "cut"})
    assert cut.rows[0]["messages"][-1]["content"] == "three  four\nfive six seven eight"
    assert cut.changes[1] == (2, "dropped", 0, "longer than 8 words: 11, and no shorter answer would fit")


def test_values_are_balanced_by_seed_and_rows_without_one_stay(home: Home) -> None:
    rows = [chat(f"q{n}", f"a{n}") for n in range(12)]
    dataset = make(home, rows)
    measure(home, dataset, "text", language=["en"] * 6 + ["de"] * 3 + [None] * 3)
    made = run(home, dataset, {"step": "balance", "column": "language"})
    kept = [fate["parent_row_id"] for fate in made.fates if fate["fate"] == "kept"]
    assert len([row for row in kept if row < 6]) == 3
    assert kept[3:] == [6, 7, 8, 9, 10, 11]
    assert {change[3] for change in made.changes} == {"not among the 3 drawn of language 'en'"}
    capped = run(home, dataset, {"step": "balance", "column": "language", "most": 1, "seed": 1})
    assert capped.result["row_count"] == 5


def test_a_sample_is_drawn_from_all_or_spread_over_topics(home: Home) -> None:
    dataset = make(home, [chat(f"q{n}", f"a{n}") for n in range(40)])
    topics = ["big"] * 30 + ["small"] * 8 + [None] * 2
    measure(home, dataset, "map", cluster=topics)
    drawn = [run(home, dataset, {"step": "sample", "rows": 10, "seed": seed}) for seed in (0, 0, 1)]
    assert drawn[0].texts == drawn[1].texts != drawn[2].texts
    assert len(drawn[0].rows) == 10
    spread = run(home, dataset, {"step": "sample", "rows": 12, "by": "diversity"})
    kept = [topics[fate["parent_row_id"]] for fate in spread.fates if fate["fate"] == "kept"]
    assert [kept.count(topic) for topic in ("big", "small", None)] == [5, 5, 2]
    whole = run(home, dataset, {"step": "sample", "rows": 40})
    assert whole.result["stats"]["notices"] == ["All 40 rows are kept: the sample of 40 is not smaller."]


def test_suspected_labels_are_dropped_or_corrected_the_worst_first(home: Home) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(5)]
    dataset = make(home, rows)
    measure(
        home, dataset, "labels",
        label_suspect=[True, False, True, None, True], label_rank=[3, 4, 1, None, 2],
        label_suggested=["b", "b", "b", None, "c"],
    )  # fmt: skip
    made = run(home, dataset, {"step": "label_errors", "most": 2})
    assert made.changes == [
        (2, "dropped", 0, "labelled 'a'; the others suggest 'b'"),
        (4, "dropped", 0, "labelled 'a'; the others suggest 'c'"),
    ]
    better = run(home, dataset, {"step": "label_errors", "action": "suggested"})
    assert [row["label"] for row in better.rows] == ["b", "b", "b", "b", "c"]
    assert better.texts[4] == "text 4\n\nc"
    assert [change[:2] for change in better.changes] == [(0, "changed"), (2, "changed"), (4, "changed")]


def test_rows_are_mixed_in_and_met_by_later_steps(home: Home) -> None:
    dataset = make(home, [chat(f"q{n}", f"a{n}") for n in range(8)])
    other = make(home, [chat(f"o{n}", " yes ", extra=n) for n in range(10)], name="Other")
    mix = {"step": "mix", "dataset": "Other", "share": 0.2}
    made = run(home, dataset, mix, {"step": "strip"}, mixed={"Other": other})
    added = [fate for fate in made.fates if fate["fate"] == "added"]
    assert len(added) == 2
    assert [fate["row_id"] for fate in added] == [8, 9]
    assert all(fate["steps"] == [1] and fate["step"] == 0 and not fate["parent_row_id"] for fate in added)
    for fate, row in zip(added, made.rows[8:], strict=True):
        assert fate["reason"] == f"row {row['line'] - 1} of Other"
        assert row["text"] == f"o{row['line'] - 1}\n\nyes"
    half = {**mix, "share": 0.5}
    where = {"step": "filter", "where": {"search": "o"}, "reason": "o"}
    again = run(home, dataset, half, where, {"step": "drop_duplicates"}, mixed={"Other": other})
    assert again.result["fates"].steps[1] == StepCounts(
        title='Drop rows where the text contains "o"',
        rows_in=16,
        changed=0,
        dropped=8,
        added=0,
        rows_out=8,
    )
    assert again.result["fates"].added == 0
    assert len(again.fates) == 8


def test_filters_on_mixed_rows_use_what_was_measured_of_them(home: Home) -> None:
    dataset = make(home, ROWS)
    other = make(home, [chat(f"o{n}", "yes") for n in range(10)], name="Other")
    measure(home, dataset, "text", words=[1, 2, 3])
    measure(home, other, "text", words=[9] * 10)
    mix = {"step": "mix", "dataset": "Other", "share": 0.4}
    where = {"conditions": [{"column": "words", "op": ">", "value": 2}]}
    made = run(home, dataset, mix, {"step": "filter", "where": where}, mixed={"Other": other})
    assert made.texts == ["a?\n\none", "b?\n\ntwo"]


def test_rows_are_edited_by_hand_to_the_letter(home: Home) -> None:
    turns = [{"role": "user", "content": " new? "}, {"role": "assistant", "content": "yes\n"}]
    edits = [{"row_id": 1, "messages": turns}, {"row_id": 0, "label": "good"}, {"row_id": 2, "label": "x"}]
    dataset = make(home, ROWS)
    drop = {"step": "filter", "where": {"row_ids": [2]}}
    made = run(home, dataset, drop, {"step": "edit_rows", "edits": edits})
    assert made.texts == ["a?\n\none", " new? \n\nyes\n"]
    assert made.rows[0]["label"] == "good"
    notice = "The edit of row 2 has no effect: an earlier step drops the row."
    assert made.result["stats"]["notices"] == [notice]
    plain = make(home, [{"text": "a"}, {"text": "b"}])
    text = run(home, plain, {"step": "edit_rows", "edits": [{"row_id": 1, "text": " c "}]})
    assert text.texts == ["a", " c "]
