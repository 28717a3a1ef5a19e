"""Options of metrics: common options, constraints that a program can check, and settings of an LLM judge."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationInfo, field_validator, model_validator

from store.core.addresses import explain_blocked_host, split_host_and_port
from store.core.config import Config
from store.core.languages import NAMES, get_language_name
from store.core.model_fields import FieldDisplay
from store.core.schemas import JsonObject


class MetricChoice(Config):
    """A metric to compute. `name` is its name in the store, by default that of the metric."""

    metric: str
    name: str = Field("", max_length=60, description="Name after eval/ in the store, to use a metric twice")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9][a-z0-9_]*", value):
            raise ValueError("use small letters, digits and _")
        return value

    @property
    def key(self) -> str:
        """The metric's key in the store."""
        return f"eval/{self.name or self.metric}"


@lru_cache(maxsize=256)
def check_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError if RE2 rejects it; RE2 takes linear time in the text for any
    pattern.
    """
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise ValueError(f"the pattern is rejected by RE2: {reason}") from error
    return pattern


CLASS_SIZE = 200  # approximate cost of a Unicode class in RE2, in characters
_PIECES = re.compile(
    r"\\Q.*?(?:\\E|\Z)"  # literal text
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*(?:\]|\Z)"  # character class
    r"|\\[pP](?:\{[^}]{0,40}\}|.)?|\\x\{[^}]{0,8}\}|\\."
    r"|\{(?P<least>\d{1,4})(?:,(?P<most>\d{0,4}))?\}|.",
    re.DOTALL,
)


def estimate_pattern_size(pattern: str) -> int:
    """Estimate how many characters RE2 has to compile. Repetitions are counted each time, since a short
    pattern with them may be large and take seconds.
    """
    totals, last = [0], 0  # size of each open group; size of the last item, which a repetition repeats
    for piece in _PIECES.finditer(pattern):
        text = piece[0]
        if piece["least"]:
            times = max(int(piece["most"] or piece["least"]), 1)
            totals[-1] += last * (times - 1)
            last *= times
        elif text == "(":
            totals.append(0)
        elif text == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        else:
            last = len(text) + CLASS_SIZE * len(re.findall(r"\\[pP]", text))
            totals[-1] += last
    return sum(totals)


# Constraints on a response that a program can check: length, words, beginning, case, language, format.
#
# They correspond to instructions in prompts ("at most 50 words", "in three bullets", "end with a question
# mark"). Each describes itself in words; `engine.evaluation.metrics.answer_metrics` checks them.

CountUnit = Literal[
    "characters", "words", "sentences", "lines", "paragraphs", "bullets", "headings", "placeholders"
]
Case = Literal["lower", "upper", "title"]
CASES: dict[Case, str] = {"lower": "in small letters", "upper": "in capitals", "title": "in Title Case"}


class _CountRange(Config):
    at_least: int | None = Field(None, ge=0)
    at_most: int | None = Field(None, ge=0)

    def _range(self) -> str:
        if self.at_least == self.at_most:
            return f"{self.at_least:,}"
        if self.at_least is None:
            return f"at most {self.at_most:,}"
        least = f"at least {self.at_least:,}"
        return least if self.at_most is None else f"{self.at_least:,} to {self.at_most:,}"

    @model_validator(mode="after")
    def _some_range(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is not None and high is not None and low > high:
            raise ValueError(f"at_least {low} is more than at_most {high}")
        return self


class CountConstraint(_CountRange):
    """Count of something in the response. Placeholders are [in brackets]."""

    kind: CountUnit

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most, or both")
        return self

    def words(self) -> str:
        return f"{self._range()} {self.kind}"


class ContainsConstraint(_CountRange):
    """The response contains each of `texts`, once or as often as specified."""

    kind: Literal["contains"]
    texts: list[str] = Field(min_length=1, max_length=100)
    ignore_case: bool = True

    def words(self) -> str:
        bounded = self.at_least is not None or self.at_most is not None
        return f"contains {_listed(self.texts)}" + (f" {self._range()} times" if bounded else "")


class ExcludesConstraint(Config):
    """The response contains none of `texts`."""

    kind: Literal["excludes"]
    texts: list[str] = Field(min_length=1, max_length=100)
    ignore_case: bool = True

    def words(self) -> str:
        return f"does not contain {_listed(self.texts)}"


class EndConstraint(Config):
    kind: Literal["starts_with", "ends_with"]
    text: str = Field(min_length=1, max_length=1_000)
    ignore_case: bool = False

    def words(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.text!r}"


class CaseConstraint(Config):
    kind: Literal["case"]
    case: Case

    def words(self) -> str:
        return f"is {CASES[self.case]}"


class LanguageConstraint(Config):
    """Language of the response. `language`: ISO 639 code, as in the language signal of a data set."""

    kind: Literal["language"]
    language: str

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        if value not in NAMES:
            raise ValueError("use a code such as en, de or zh")
        return value

    def words(self) -> str:
        return f"is in {get_language_name(self.language)}"


class PatternConstraint(Config):
    """Pattern in the response. `pattern`: RE2, matched anywhere."""

    kind: Literal["matches", "does_not_match"]
    pattern: str = Field(min_length=1, max_length=2_000)

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        return check_pattern(value)

    def words(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.pattern}"


class JsonConstraint(Config):
    kind: Literal["json"]

    def words(self) -> str:
        return "is JSON"


Constraint = Annotated[
    CountConstraint
    | ContainsConstraint
    | ExcludesConstraint
    | EndConstraint
    | CaseConstraint
    | LanguageConstraint
    | PatternConstraint
    | JsonConstraint,
    Field(discriminator="kind"),
]


def _listed(texts: list[str]) -> str:
    return " and ".join(repr(text) for text in texts)


# An LLM judge, at any endpoint that speaks the OpenAI protocol.
#
# The key is never part of a config: `key_env` names an environment variable of the worker, `key_file` a file
# that only its owner can read. Plain http is allowed for this machine only, since it would expose the key on
# the network.

CRITERIA = "The answer is correct, complete, and does what was asked."


def check_endpoint_address(value: str) -> str:
    """Return the address of a server that an API key may be sent to. Raises ValueError for any other."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("use an address such as https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("leave out user, password and query; pass the key by key_env or key_file")
    if refused := explain_blocked_host(split_host_and_port(value)[0]):
        raise ValueError(f"it is {refused}; give another address")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("http shows the key to the network; use https, or a server on this machine")
    return value.rstrip("/")


class Endpoint(Config):
    """Server of the judge, with timeout, retries and limits."""

    base_url: Annotated[str, FieldDisplay(example="https://HOST/v1")] = Field(
        max_length=500, description="Such as https://HOST/v1; /chat/completions is added"
    )
    model: Annotated[str, FieldDisplay(example="model name on the server")] = Field(
        min_length=1, max_length=200
    )
    key_env: Annotated[str, FieldDisplay(empty="no key")] = Field(
        "",
        pattern=r"^[A-Za-z_0-9]*$",
        description="Environment variable of the engine with the key, which itself is never stored",
    )
    key_file: str = Field("", description="File with the key, mode 0600")
    timeout: float = Field(60.0, gt=0, le=600, description="Timeout per request, s")
    retries: int = Field(3, ge=0, le=10, description="Retries after a temporary error")
    concurrency: int = Field(4, ge=1, le=64, description="Concurrent requests")
    max_calls: int = Field(1_000, ge=1, le=1_000_000, description="Maximum requests per evaluation")
    max_tokens: int = Field(512, ge=16, le=16_384, description="Maximum tokens per judgement")
    json_mode: bool = Field(False, description="Request JSON by response_format; some servers reject it")

    extra: JsonObject = Field(
        default_factory=dict, description="Additional fields of each request; null omits a default field"
    )

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, value: JsonObject) -> JsonObject:
        if taken := {"messages", "model", "stream", "n"} & set(value):
            raise ValueError(f"{', '.join(sorted(taken))} can't be changed here")
        return value

    @field_validator("base_url")
    @classmethod
    def _safe(cls, value: str) -> str:
        return check_endpoint_address(value)

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_env and self.key_file:
            raise ValueError("give key_env or key_file, not both")
        return self


class JudgeChoice(MetricChoice, Endpoint):
    """Judge with grades from `lowest` to `highest`, by `criteria`; for pairs it picks a winner instead."""

    metric: Literal["judge"]
    criteria: str = Field(CRITERIA, min_length=1, max_length=10_000)
    lowest: int = Field(1, ge=0, le=100)
    highest: int = Field(5, ge=1, le=100)
    with_reference: bool = Field(True, description="Show the reference answer to the judge")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} is not below highest {self.highest}")
        return self


class JudgePairs(Config):
    """Pairwise comparison by a judge of two evaluations' responses to the same rows."""

    first: str = Field(min_length=1, max_length=120, description="Id or name of an evaluation")
    second: str = Field(
        min_length=1, max_length=120, description="Id or name of another evaluation of the same rows"
    )
    judge: JudgeChoice
    max_rows: int | None = Field(200, ge=1, description="Size of the random sample of pairs; all if null")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed of the sample")

    @field_validator("judge", mode="before")
    @classmethod
    def _is_judge(cls, value: Any) -> Any:
        return {"metric": "judge"} | value if isinstance(value, dict) else value

    @field_validator("second")
    @classmethod
    def _another(cls, value: str, validation: ValidationInfo) -> str:
        if value == validation.data.get("first"):
            raise ValueError("it is the first one; name another evaluation")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
