"""The suite's own items and prose: whole, without doubles, and right where that can be worked out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from engine.evaluation.probes import suite_texts
from engine.evaluation.probes.choice_items import ChoiceItem, check_items
from engine.evaluation.probes.suite_texts import load_suite, read_items, read_passages
from store.core.errors import DataError

SUITE = load_suite()
FILES = {"items": ".tsv", "prose": ".txt"}
SUMS = {
    r"What is (\d+) \+ (\d+)\?": lambda a, b: a + b,
    r"What is (\d+) - (\d+)\?": lambda a, b: a - b,
    r"What is (\d+) times (\d+)\?": lambda a, b: a * b,
    r"What is (\d+) divided by (\d+)\?": lambda a, b: a / b,
    r"What is half of (\d+)\?": lambda a: a / 2,
    r"What is double (\d+)\?": lambda a: a * 2,
    r"Which number comes right after (\d+)\?": lambda a: a + 1,
    r"Which number comes right before (\d+)\?": lambda a: a - 1,
}


def of(category: str) -> list[ChoiceItem]:
    return [item for item in SUITE.items if item.category == category]


def asked(pattern: str, category: str) -> dict[str, str]:
    """What an item of this form asks about, with its right option."""
    matches = [(re.fullmatch(pattern, item.question), item) for item in of(category)]
    return {match[1]: item.options[item.right] for match, item in matches if match}


def test_it_has_eight_categories_of_eighty_items_or_more() -> None:
    assert len(SUITE.categories) == 8
    assert min(SUITE.categories.values()) >= 80
    assert len(SUITE.items) >= 640
    assert {len(item.options) for item in SUITE.items} == {4}


def test_no_item_stands_there_twice() -> None:
    assert len({(item.question, item.options[item.right]) for item in SUITE.items}) == len(SUITE.items)
    asked_twice = [q for q, n in Counter(item.question for item in SUITE.items).items() if n > 1]
    assert asked_twice == ["Which of these sentences is correct?"]


def test_texts_are_clean() -> None:
    for item in SUITE.items:
        assert item.question.endswith(("?", "...")), item
        for text in (item.question, *item.options):
            assert text == " ".join(text.split()), item
            assert text.isascii(), item


def test_the_right_option_stands_everywhere_alike() -> None:
    for category, count in SUITE.categories.items():
        places = Counter(item.right for item in of(category))
        assert all(0.13 < places[place] / count < 0.38 for place in range(4)), category
    places = Counter(item.right for item in SUITE.items)
    assert all(0.21 < places[place] / len(SUITE.items) < 0.29 for place in range(4))


def test_length_does_not_tell_the_right_option() -> None:
    for category, count in SUITE.categories.items():
        longest = shortest = 0.0
        for item in of(category):
            sizes = [len(option) for option in item.options]
            for_longest, for_shortest = sizes.count(max(sizes)), sizes.count(min(sizes))
            longest += (sizes[item.right] == max(sizes)) / for_longest
            shortest += (sizes[item.right] == min(sizes)) / for_shortest
        assert 0.12 < longest / count < 0.45, category
        assert 0.12 < shortest / count < 0.45, category


def test_arithmetic_is_right() -> None:
    for item in of("arithmetic"):
        matches = [(re.fullmatch(pattern, item.question), work) for pattern, work in SUMS.items()]
        [(match, work)] = [(match, work) for match, work in matches if match]
        assert int(item.options[item.right]) == work(*map(int, match.groups())), item


def test_symbols_are_told_the_same_both_ways() -> None:
    symbols = asked(r"What is the chemical symbol of (.+)\?", "elements")
    names = asked(r"Which element has the symbol (.+)\?", "elements")
    assert len(symbols) > 25
    assert len(names) > 15
    assert len(set(symbols.values())) == len(symbols)
    both = [symbol for symbol in symbols.values() if symbol in names]
    assert len(both) > 10
    assert all(symbols[names[symbol]] == symbol for symbol in both)
    elsewhere = symbols | {name: symbol for symbol, name in names.items()}
    for name, symbol in elsewhere.items():
        assert symbol[0].lower() == name[0] or name in {
            "sodium", "potassium", "iron", "silver", "tin", "gold", "mercury", "lead", "tungsten",
        }  # fmt: skip


def test_a_country_has_one_capital_and_a_capital_one_country() -> None:
    capitals = asked(r"What is the capital of (.+)\?", "geography")
    assert len(capitals) >= 50
    assert len(set(capitals.values())) == len(capitals)


def test_opposites_are_told_the_same_both_ways() -> None:
    pairs = asked(r'What is the opposite of "(.+)"\?', "antonyms")
    back = {word: other for word, other in pairs.items() if other in pairs}
    assert all(pairs[other] == word or other == "old" for word, other in back.items())
    wrong = defaultdict(set)
    for item in of("antonyms"):
        wrong[item.question.split('"')[1]] = set(item.options) - {item.options[item.right]}
    assert all(word not in wrong[word] for word in wrong)


def test_prose_is_enough_and_every_passage_is_one_of_its_own() -> None:
    assert 60 <= len(SUITE.passages) <= 80
    assert len({p.id for p in SUITE.passages}) == len(SUITE.passages)
    assert len({p.topic for p in SUITE.passages}) == len(SUITE.passages)
    assert len({p.register for p in SUITE.passages}) >= 8
    words = [len(p.text.split()) for p in SUITE.passages]
    assert sum(words) > 15_500
    assert min(words) > 180
    sentences = Counter(s for p in SUITE.passages for s in re.split(r"(?<=[.!?])\s+", p.text) if len(s) > 40)
    assert max(sentences.values()) == 1


def test_a_changed_text_is_another_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch("[0-9a-f]{16}", SUITE.fingerprint)
    files = {folder: suite_texts._read_files(folder, ending) for folder, ending in FILES.items()}
    monkeypatch.setattr(suite_texts, "_read_files", lambda folder, ending: files[folder])
    assert load_suite.__wrapped__() == SUITE
    seen = {SUITE.fingerprint}
    for folder in FILES:
        whole, (name, text) = files[folder], files[folder][0]
        files[folder] = [(name, text.replace(" the ", " that ", 1)), *whole[1:]]
        seen.add(load_suite.__wrapped__().fingerprint)
        files[folder] = whole
    assert len(seen) == 3


def test_options_stand_as_the_id_says_and_not_as_the_file_does() -> None:
    text = "question\tanswer\tdistractors\nWhat?\tyes\tno\nWhat else?\ta\tb\tc\td\n"
    two, five = read_items("mine", text)
    assert (two.id, two.category) == ("mine/001", "mine")
    assert sorted(two.options) == ["no", "yes"]
    assert two.options[two.right] == "yes"
    assert five.options[five.right] == "a"
    assert read_items("mine", text) == [two, five]
    assert {read_items(f"m{i}", text)[0].right for i in range(20)} == {0, 1}
    assert two.prompt == "Question: What?\nAnswer:"
    assert set(two.continuations) == {" yes", " no"}
    with pytest.raises(DataError, match="mine/001"):
        read_items("mine", "question\tanswer\nWhat?\tyes\n")


def test_passages_are_read_with_their_topics() -> None:
    first, second = read_passages("r", "== a: one thing\nText,\n\nmore.\n\n== b: another: thing\nText.\n")
    assert (first.id, first.topic, first.text) == ("r/a", "one thing", "Text,\n\nmore.")
    assert second.topic == "another: thing"
    with pytest.raises(DataError, match="no topic"):
        read_passages("r", "== a\nText.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "no question"),
        ({"options": ("a", " ")}, r"empty option \(number 2\)"),
        ({"options": ("a",)}, "1 options"),
        ({"options": ("a b", "a  b")}, "'a b' twice"),
        ({"right": 2}, "right option 2, of 2"),
        ({"id": "set/1"}, "the same id as an earlier item"),
    ],
)
def test_an_item_that_cannot_be_asked_is_named(change: dict[str, object], message: str) -> None:
    good = {"id": "set/2", "category": "set", "question": "What?", "options": ("a", "b"), "right": 0}
    items = [ChoiceItem("set/1", "set", "Which?", ("c", "d"), 1), ChoiceItem(**good | change)]  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message) as raised:
        check_items(items)
    assert repr(items[1].id) in raised.value.message
    assert raised.value.fix
