"""Build a round's check items before it opens: gold and qualification items from known answers, and attention
items from the round's own.

Known answers are rows of a data set (preference pairs for pairwise, labeled texts for label), or of a file
with `prompt` or `messages`, the answers to rate (`answers`, a list, or a single `answer`), what is
`expected`, and a `reference` if the round's own items have one. An attention item is an item of the round
whose prompt ends with the answer to give, so that only reading it tells it from others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from engine.data.conversion.conversation_turns import format_value, parse_texts
from engine.data.readers.file_rows import FileRow, RowSkipped, SkippedRow
from engine.data.readers.source_reader import open_file
from engine.rating.answers import check_answer
from engine.rating.prompt_sources import build_prompt_turns
from engine.rating.prompts_file import split_prompt_and_answer
from engine.rating.task_selection import list_model_groups
from engine.rating.training_rows import find_last_question
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.core.rating_schemas import CheckKind, PromptTurn, RatingAnswer, RoundItem
from store.data import dataset_files
from store.rating.config import MARKING, RoundConfig

FIELD = "gold_file"
MAX_ROWS = 100_000  # in a file of known answers
MAX_ATTENTION = 50  # items per round
PASS_VALUES = {"true": True, "pass": True, "yes": True, "1": True,
          "false": False, "fail": False, "no": False, "0": False}  # fmt: skip
ATTENTION_PROMPT = "This is an attention check. Ignore the answers and {ask}."


class KnownAnswer(NamedTuple):
    """Prompt with answers to rate, and the expected rating."""

    turns: list[PromptTurn]
    answers: list[str]
    reference: str | None
    expected: RatingAnswer


class KnownAnswers(NamedTuple):
    """Usable known answers of a source, and the number of unusable rows by reason."""

    usable: list[KnownAnswer]
    left_out: Counter[str]


# -- known answers ----------------------------------------------------------------------------------


def read_dataset_answers(
    home: Home, fingerprint: str, config: RoundConfig, systems: int, random: np.random.Generator
) -> KnownAnswers:
    """Read the data set rows with a known answer: a preferred answer or a label."""
    columns = ["messages", "rejected", "label"]
    rows = dataset_files.load_rows(home, fingerprint, columns=columns).to_pylist()
    left_out: Counter[str] = Counter()
    usable: list[KnownAnswer] = []
    for row in rows:
        try:
            make = _read_label if config.protocol == "label" else _read_preference
            usable.append(make(row, config, systems, random))
        except RowSkipped as fault:
            left_out[str(fault)] += 1
    return KnownAnswers(usable, left_out)


def _read_preference(
    row: Mapping[str, Any], config: RoundConfig, systems: int, random: np.random.Generator
) -> KnownAnswer:
    if not row["messages"] or row["rejected"] is None:
        raise RowSkipped("it has no pair of answers")
    better_first = bool(random.integers(2))
    both = [row["messages"][-1]["content"], row["rejected"]]
    turns = build_prompt_turns(row["messages"], None)
    expected: RatingAnswer = {"choice": "A" if better_first else "B"}
    return KnownAnswer(turns, both if better_first else both[::-1], None, expected)


def _read_label(
    row: Mapping[str, Any], config: RoundConfig, systems: int, random: np.random.Generator
) -> KnownAnswer:
    if not row["messages"] or row["label"] not in config.labels:
        raise RowSkipped("its label is not in the round")
    expected: RatingAnswer = {"label": row["label"], "note": ""}
    if config.several_labels:
        expected = {"labels": [row["label"]], "note": ""}
    turns, answers = (
        build_prompt_turns(row["messages"], None),
        _draw_label_answers(row["label"], config, systems, random),
    )
    return KnownAnswer(turns, answers, None, expected)


def _draw_label_answers(
    label: str, config: RoundConfig, systems: int, random: np.random.Generator
) -> list[str]:
    """Return random labels for the models, right and wrong alike, where raters see models' labels."""
    return [label if random.integers(2) else str(random.choice(config.labels)) for _ in range(systems)]


def read_file_answers(
    home: Home,
    path: Path,
    config: RoundConfig,
    systems: int,
    random: np.random.Generator,
    check: Callable[[int], None] = lambda rows: None,
) -> KnownAnswers:
    """Read the file rows with a known answer. Raises DataError (gold_file) if the file can't be read."""
    usable: list[KnownAnswer] = []
    left_out: Counter[str] = Counter()
    try:
        with closing(open_file(home, path, has_header=True)) as reader:
            for number, (_, row) in enumerate(reader.rows()):
                check(number)
                if number == MAX_ROWS:
                    raise DataError(f"{path.name} has more than {MAX_ROWS:,} rows.", fix="Give a part of it.")
                try:
                    usable.append(_read_row(row, config, systems, random))
                except RowSkipped as fault:
                    left_out[str(fault)] += 1
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=FIELD) from error
    return KnownAnswers(usable, left_out)


def _read_row(
    row: FileRow | SkippedRow, config: RoundConfig, systems: int, random: np.random.Generator
) -> KnownAnswer:
    if isinstance(row, SkippedRow):
        raise RowSkipped(row.reason)
    turns, reference = split_prompt_and_answer(row, "prompt")
    if row.get("reference"):
        reference = format_value(row["reference"], "reference")
    if config.protocol == "label":
        expected = _read_expected(row.get("expected"), config, systems)
        given: Mapping[str, Any] = expected
        label = str(given["label"]) if "label" in given else ", ".join(given["labels"])
        return KnownAnswer(turns, _draw_label_answers(label, config, systems, random), None, expected)
    of_prompt = config.protocol in MARKING and config.subject == "prompt"
    answers = [""] if of_prompt else _read_answers(row, config, systems)
    text = find_last_question(turns) if of_prompt else answers[0]
    return KnownAnswer(turns, answers, reference, _read_expected(row.get("expected"), config, systems, text))


def _read_answers(row: FileRow, config: RoundConfig, systems: int) -> list[str]:
    """Return as many answers as an item of the round shows."""
    given = parse_texts(row.get("answers"))
    if given is None and row.get("answer") is not None:
        given = [row["answer"]]
    wanted = {"pairwise": 2, "rank": systems}.get(config.protocol, 1)
    if not isinstance(given, list) or len(given) != wanted:
        raise RowSkipped(f"it has not {wanted} answer{'s' if wanted > 1 else ''} to rate")
    return [format_value(text, "an answer") for text in given]


def _read_expected(value: Any, config: RoundConfig, systems: int, text: str = "") -> RatingAnswer:
    """Return a row's expected answer in the form of the protocol; `text` is the text that spans refer to.

    Raises RowSkipped if raters can't give that answer in this round.
    """
    value = parse_texts(value)
    if value is None or value == "" or value != value:
        raise RowSkipped("it has no expected answer")
    document: dict[str, Any]
    if config.protocol == "pairwise":
        document = {"choice": str(value).strip()}
    elif config.protocol == "rank":
        document = {"ranks": [int(rank) for rank in value] if _are_whole(value) else value}
    elif config.protocol == "rubric":
        return _read_expected_scores(value, config)
    elif config.protocol == "pass_fail":
        document = {"passed": PASS_VALUES.get(str(value).strip().casefold(), value)}
    elif config.protocol == "label" and config.several_labels:
        document = {"labels": value if isinstance(value, list) else [str(value).strip()]}
    elif config.protocol == "label":
        document = {"label": str(value).strip()}
    elif config.protocol == "spans":
        document = {"spans": value}
    elif config.protocol == "free_text":
        document = {"written": str(value)}
    else:
        document = {"text": str(value)}
    return _check_expected(document, config, systems, text)


def _read_expected_scores(value: Any, config: RoundConfig) -> RatingAnswer:
    """Return expected scores of some criteria, or a single number if there is one criterion.

    Criteria that aren't listed may have any score.
    """
    names = [criterion.name for criterion in config.criteria]
    scores = value if isinstance(value, dict) else {names[0]: value} if len(names) == 1 else None
    if not scores or not set(scores) <= set(names) or not _are_whole(list(scores.values())):
        raise RowSkipped("its expected scores are not whole numbers by the name of a criterion")
    whole = {str(name): int(float(score)) for name, score in scores.items()}
    _check_expected({"scores": dict.fromkeys(names, 1) | whole}, config, 1)
    return {"scores": whole}


def _are_whole(values: Any) -> bool:
    """Return whether all values are integers, also as floats or text from untyped tables."""
    try:
        return isinstance(values, list) and all(float(value) == int(float(value)) for value in values)
    except (TypeError, ValueError, OverflowError):
        return False


def _check_expected(
    document: dict[str, Any], config: RoundConfig, systems: int, text: str = ""
) -> RatingAnswer:
    try:
        return check_answer(config, document, systems, text)
    except ConfigError as error:
        raise RowSkipped(f"expected: {error.message}") from error


def draw_known_items(
    source: KnownAnswers,
    wanted: Mapping[CheckKind, int],
    first_id: int,
    random: np.random.Generator,
) -> list[RoundItem]:
    """Draw items at random, using each known answer at most once; kinds listed first are filled first.

    Raises DataError if no known answer is usable.
    """
    if not source.usable:
        why = "; ".join(f"{reason} ({count:,})" for reason, count in source.left_out.most_common(3))
        raise DataError(
            f"None of the known answers fits this round{f': {why}' if why else ''}.",
            fix="Give rows with prompt, answers and expected, as the round's protocol answers.",
            field=FIELD,
        )
    order = iter(random.permutation(len(source.usable)).tolist())
    items: list[RoundItem] = []
    for kind, count in wanted.items():
        for _, place in zip(range(count), order, strict=False):
            items.append(_build_item(first_id + len(items), kind, source.usable[place]))
    return items


# -- attention --------------------------------------------------------------------------------------


def draw_attention_items(
    config: RoundConfig, items: Sequence[RoundItem], systems: int, first_id: int, random: np.random.Generator
) -> list[RoundItem]:
    """Build attention items from the round's items: as many as one rater can get."""
    rated = min(config.per_rater or MAX_ROWS, len(items) * len(list_model_groups(systems, config.protocol)))
    count = min(int(np.ceil(config.attention_share * rated)), MAX_ATTENTION, len(items))
    chosen = random.permutation(len(items))[:count].tolist()
    return [
        _build_item(first_id + number, "attention", _add_instruction(config, items[place], systems, random))
        for number, place in enumerate(chosen)
    ]


def _add_instruction(
    config: RoundConfig, item: RoundItem, systems: int, random: np.random.Generator
) -> KnownAnswer:
    answers = _draw_shown_answers(config, item, systems, random)
    marked = answers[0] if config.subject == "answer" else find_last_question(item.prompt)
    ask, expected = _draw_instruction(config, len(answers), marked, random)
    turns = [PromptTurn(role=turn["role"], content=turn["content"]) for turn in item.prompt]
    turns = turns or [PromptTurn(role="user", content="")]
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    turns[last]["content"] += f"\n\n{ATTENTION_PROMPT.format(ask=ask)}"
    return KnownAnswer(turns, answers, item.reference, expected)


def _draw_shown_answers(
    config: RoundConfig, item: RoundItem, systems: int, random: np.random.Generator
) -> list[str]:
    """Return the answers of as many randomly chosen models as an item of the round shows."""
    if config.protocol in ("rank", "label"):
        return [text or "" for text in item.answers]
    count = 2 if config.protocol == "pairwise" else 1
    return [item.answers[place] or "" for place in random.permutation(systems)[:count].tolist()]


def _draw_instruction(
    config: RoundConfig, answers: int, marked: str, random: np.random.Generator
) -> tuple[str, RatingAnswer]:
    """Return a random instruction and its expected answer, so that no habit is right; `marked` is the text of
    spans.
    """
    first = bool(random.integers(2))
    if config.protocol == "pairwise":
        choice: Literal["A", "B"] = "A" if first else "B"
        return f"choose answer {choice}", {"choice": choice}
    if config.protocol == "rank":
        ranks = list(range(1, answers + 1))
        way = "in their order, the best first" if first else "in reverse, the last best"
        return f"rank the answers {way}", {"ranks": ranks if first else ranks[::-1]}
    if config.protocol == "rubric":
        names = [criterion.name for criterion in config.criteria]
        point = 1 if first else min(len(criterion.anchors) for criterion in config.criteria)
        where = f"on {names[0]}" if len(names) == 1 else "on every criterion"
        return f"give point {point} {where}", {"scores": dict.fromkeys(names, point)}
    if config.protocol == "pass_fail":
        return f"choose {'pass' if first else 'fail'}", {"passed": first, "reasons": []}
    if config.protocol == "label":
        label = str(random.choice(config.labels))
        if config.several_labels:
            return f"choose the label “{label}” and no other", {"labels": [label], "note": ""}
        return f"choose the label “{label}”", {"label": label, "note": ""}
    if config.protocol == "spans":
        return _draw_span_instruction(config, marked, random)
    word = f"read {random.integers(1_000, 10_000)}"
    if config.protocol == "free_text":
        return f"write “{word}” and nothing else", {"written": word}
    return f"write “{word}” in place of the answer", {"text": word}


def _draw_span_instruction(
    config: RoundConfig, marked: str, random: np.random.Generator
) -> tuple[str, RatingAnswer]:
    """Return an instruction to mark the first word of the text with a random label."""
    word = re.search(r"\w+", marked)
    if word is None:
        return "mark nothing", {"spans": []}
    label = str(random.choice(config.labels))
    expected: RatingAnswer = {"spans": [{"start": word.start(), "end": word.end(), "label": label}]}
    return f"mark only its first word, as “{label}”", expected


def _build_item(item_id: int, kind: CheckKind, known_answer: KnownAnswer) -> RoundItem:
    return RoundItem(
        item_id=item_id,
        row_id=None,
        prompt=known_answer.turns,
        reference=known_answer.reference,
        answers=[*known_answer.answers],
        named=False,
        check=kind,
        expected=known_answer.expected,
        weight=1.0,
    )
