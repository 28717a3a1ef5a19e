"""Signals of rows: what is measured, what it means, which values are healthy, and formatted figures.

This is the single list of signals. A group is computed by one job and stored as one sidecar,
`datasets/FINGERPRINT/signals/GROUP.parquet`, with `row_id` and the columns named here, in row order. Screens,
the command line and recipes refer to a signal by its column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.core.row_schemas import SignalFigure

Type = Literal["number", "flag", "category", "group"]  # group: rows with the same value belong together


@dataclass(frozen=True)
class Signal:
    """A signal of a row.

    `means`: what the column contains. `healthy`: (low, high) range for the share of flagged rows (flag), the
    share of rows beyond the first of a group (group) or the median (number), and for a number with the unit
    "found" the share of rows with any; None: no expectation. `outside`: what a value outside of the range
    means.
    """

    column: str
    type: Type
    title: str
    means: str
    unit: str = ""
    healthy: tuple[float | None, float | None] | None = None
    outside: str = ""


@dataclass(frozen=True)
class SignalGroup:
    """A group of signals measured together.

    `module`: implementation (`engine.data.signals.protocol`). `version`: increased when the same rows would
    give other values. `needs`: what must be chosen or loaded first. `automatic`: computed after every import.
    """

    name: str
    title: str
    module: str
    signals: tuple[Signal, ...]
    version: int = 1
    needs: Literal["", "tokenizer", "model", "labels", "embeddings"] = ""
    automatic: bool = False


NONE = (None, 0.0)  # healthy range: none at all

GROUPS: dict[str, SignalGroup] = {
    group.name: group
    for group in (
        SignalGroup(
            "text",
            "Texts",
            "engine.data.signals.text_signals",
            (
                Signal("characters", "number", "Characters", "Characters of the whole row", "characters"),
                Signal("words", "number", "Words", "Words of the whole row", "words"),
                Signal("prompt_characters", "number", "Prompt length",
                    "Characters of all turns before the last answer", "characters"),
                Signal("answer_characters", "number", "Answer length", "Characters of the last answer",
                    "characters"),
                Signal("answer_words", "number", "Answer words", "Words of the last answer", "words"),
                Signal("language", "category", "Language",
                    "Language of the row, held as its ISO 639 code; empty if undetermined"),
                Signal("language_confidence", "number", "Language confidence",
                    "How sure the language is, 0 to 1"),
                Signal("repetition", "number", "Repetition",
                    "Share of words in 3-grams that already occurred in the row", "share",
                    (None, 0.1), "The text repeats itself; a model learns to loop."),
                Signal("encoding_damage", "flag", "Broken characters",
                    "Mojibake (â€™) or control characters that can be repaired", "", NONE,
                    "The file was read or written in a wrong encoding."),
                Signal("lost_characters", "flag", "Lost characters",
                    "Replacement characters (�) and damage that can't be repaired", "", NONE,
                    "The original text is lost, and the model learns to write like that."),
                Signal("html", "flag", "HTML", "HTML tags or entities outside code blocks", "",
                    (None, 0.01),
                    "The model learns to answer in HTML."),
                Signal("boilerplate", "flag", "Boilerplate",
                    "Lines of web pages: cookies, subscribe, all rights reserved, read more", "",
                    (None, 0.01), "Text that was scraped along with the content."),
                Signal("empty_answer", "flag", "Empty answers", "The last answer has no letter or digit", "",
                    NONE, "The model learns to answer nothing."),
                Signal("one_word_answer", "flag", "One-word answers",
                    "The last answer is a single word (not counted where rows have labels)", "", (None, 0.2),
                    "Right for classification, thin for instruction data."),
                Signal("echo", "flag", "Echoes", "The answer repeats the prompt", "", (None, 0.01),
                    "The model learns to repeat the question."),
                Signal("refusal", "flag", "Refusals", "The answer declines, such as “As an AI, I cannot”", "",
                    (None, 0.01), "The model learns to refuse."),
                Signal("truncated", "flag", "Cut-off answers",
                    "A long answer without an end (no closing mark, an open code block or bracket), one that"
                    " ends with a word like “the”, or, where nearly all answers of the set close with a"
                    " mark, one that doesn't: there about four in five are found. Elsewhere, and where half"
                    " of a set is cut, most are missed: a short answer without a mark may be whole",
                    "",
                    (None, 0.05), "The model learns to stop in mid-sentence."),
            ),
            version=4,
            automatic=True,
        ),
        SignalGroup(
            "privacy",
            "Privacy and safety",
            "engine.data.signals.privacy_signals",
            (
                Signal("email", "number", "E-mail addresses", "How many", "found", NONE,
                    "Personal data that the model may recite."),
                Signal("phone", "number", "Phone numbers", "How many", "found", NONE,
                    "Personal data that the model may recite."),
                Signal("card", "number", "Card numbers", "How many, by the Luhn check", "found", NONE,
                    "Personal data that the model may recite."),
                Signal("iban", "number", "Bank accounts (IBAN)", "How many, by their check digits", "found",
                    NONE, "Personal data that the model may recite."),
                Signal("ip", "number", "IP addresses", "How many public ones", "found", NONE,
                    "May point to a person or a machine."),
                Signal("ssn", "number", "Social security numbers", "How many in the US form", "found", NONE,
                    "Personal data that the model may recite."),
                Signal("person", "number", "Names of people",
                    "Count; found by a word list with context, so some are missed", "found"),
                Signal("address", "number", "Street addresses", "Count; found by patterns, so some are "
                                                                "missed",
                    "found", NONE, "Personal data that the model may recite."),
                Signal("secret", "number", "Secrets", "Keys, tokens and passwords", "found", NONE,
                    "A leaked credential; revoke it."),
                Signal("profanity", "number", "Profanity", "Swear words and slurs, English", "found",
                    (None, 0.01), "The model learns the tone."),
            ),
            version=2,
            automatic=True,
        ),
        SignalGroup(
            "duplicates",
            "Duplicates",
            "engine.data.signals.duplicate_signals",
            (
                Signal("exact_group", "group", "Exact duplicates",
                    "The first row with exactly this text, label and rejected answer (after Unicode"
                    " normalization, NFC)", "", (None, 0.001),
                    "The model sees it several times, so it counts for more than other rows."),
                Signal("folded_group", "group", "Equal except for case and spacing",
                    "The first row that is equal except for case, white space and forms of characters "
                    "(NFKC)"),
                Signal("near_group", "group", "Near duplicates",
                    "Rows whose word 5-grams overlap with those of their representative row (Jaccard 0.7 "
                    "or more, verified), with the same label and answer: that row's number",
                    "", (None, 0.1),
                    "Near duplicates together count for more than other rows."),
                Signal("near_similarity", "number", "Similarity",
                    "Jaccard similarity to its representative row", "share"),
                Signal("near_chain", "group", "Chained by near duplicates",
                    "Rows linked by a chain of near duplicates, including short texts with one changed "
                    "word: the first row's number. Splits keep them together"),
                Signal("near_conflict", "flag", "Similar, with another answer",
                    "Nearly the same as a row with another label or answer"),
                Signal("prompt_group", "group", "Same prompt",
                    "Rows with the same prompt: the first row's number"),
                Signal("conflict", "flag", "Conflicts",
                    "The same prompt has an answer elsewhere that contradicts this one", "", NONE,
                    "The model is taught two answers to one question."),
                Signal("references", "flag", "Several references",
                    # a kind of data, not a fault, so it has no healthy range
                    "Its prompt has other valid answers: they agree, are many, or the data is designed so"),
            ),
            version=4,
            automatic=True,
        ),
        SignalGroup(
            "tokens",
            "Tokens",
            "engine.data.signals.token_signals",
            (
                Signal("tokens", "number", "Tokens", "Tokens of the row for the chosen model",
                    "tokens"),
                Signal("trained_tokens", "number", "Trained tokens", "Tokens that the loss is computed on",
                    "tokens"),
                Signal("cut", "flag", "Cut rows", "Longer than max_length", "", (None, 0.01),
                    "The end of these rows is never seen."),
                Signal("lost_tokens", "number", "Lost tokens", "Trained tokens beyond max_length", "tokens"),
            ),
            needs="tokenizer",
        ),
        SignalGroup(
            "difficulty",
            "Difficulty",
            "engine.data.signals.difficulty_signals",
            (
                Signal("answer_loss", "number", "Loss of the answer",
                    "Nats per token of the answer under the base model, given the prompt", "nats per token"),
                Signal("answer_loss_alone", "number", "Loss without the prompt",
                    "The same without the prompt", "nats per token"),
                Signal("ifd", "number", "Difficulty of the answer",
                    "Perplexity of the answer with the prompt over that without (instruction-following"
                    " difficulty, IFD); at 1 or more the prompt does not help",
                    "ratio", (None, 1.0), "The answer does not follow from the prompt."),
            ),
            needs="model",
        ),
        SignalGroup(
            "labels",
            "Label quality",
            "engine.data.signals.label_signals",
            (
                Signal("label_confidence", "number", "Confidence in the label",
                    "Out-of-fold probability of the row's own label", "share"),
                Signal("label_suggested", "category", "Suggested label",
                    "The label that the other rows suggest"),
                Signal("label_suspect", "flag", "Suspected label errors",
                    "Confident learning considers the label wrong", "", (None, 0.03),
                    "The model learns wrong labels and is evaluated on them."),
                Signal("label_rank", "number", "Rank of suspicion", "1 is the most suspicious row"),
            ),
            needs="labels",
        ),
        SignalGroup(
            "map",
            "Map",
            "engine.data.signals.map_signals",
            (
                Signal("x", "number", "Map x", "Position on the embedding map"),
                Signal("y", "number", "Map y", "Position on the embedding map"),
                Signal("cluster", "category", "Topic",
                    "Embedding cluster, named by its most distinctive words"),
                Signal("template", "category", "Template",
                    "The first words of the prompt, where many rows share them"),
            ),
            needs="embeddings",
        ),
    )
}  # fmt: skip

SIGNALS: dict[str, Signal] = {s.column: s for group in GROUPS.values() for s in group.signals}
GROUP_OF: dict[str, str] = {s.column: group.name for group in GROUPS.values() for s in group.signals}


def format_figure(signal: Signal, figure: SignalFigure) -> str:
    """Format the figure of a signal (docs/rows.md): "12 of 340 rows (3.53%)", "median 14 words"."""
    n = figure["n"]
    if not n:
        return "not measured"
    if "flagged" in figure:
        return f"{figure['flagged']:,} of {n:,} rows ({figure['flagged'] / n:.2%})"
    if "extra" in figure:
        return (
            f"{figure['extra']:,} of {n:,} rows beyond the first of their group ({figure['extra'] / n:.2%})"
        )
    if "distinct" in figure:
        most = [f"{value or '(none)'} {count:,}" for value, count in list(figure["values"].items())[:5]]
        return f"{figure['distinct']:,} values; {', '.join(most)}"
    if "value" in figure:
        return format_four_digits(figure["value"])
    if signal.unit == "found":
        return f"in {figure['positive']:,} of {n:,} rows ({figure['positive'] / n:.2%})"
    middle, high = format_four_digits(figure["median"]), format_four_digits(figure["p95"])
    return f"median {middle}, 95% at most {high} {signal.unit}".rstrip()


def format_band(signal: Signal) -> str:
    """Format the healthy range: "at most 1.00%", "none"; empty if there is none."""
    if signal.healthy is None:
        return ""
    low, high = signal.healthy
    if high == 0:
        return "none"
    show = format_four_digits if signal.type in ("number",) and signal.unit != "found" else _format_share
    if low is None:
        return f"at most {show(high)}" if high is not None else ""
    return f"at least {show(low)}" if high is None else f"{show(low)} to {show(high)}"


def _format_share(value: float) -> str:
    return f"{value:.2%}"


def format_four_digits(value: float | None) -> str:
    """Format a number with four digits; integers are kept as they are."""
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
