"""Answers with a required form: JSON, a JSON schema, function calls, or one of several options.

A grammar determines which tokens may come next; generated text is parsed as calls and checked against the
offered functions; a typed question gets a probability for each option.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jinja2 import Environment
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from transformers.decision import DecisionConfig
from transformers.decision.template_utils import DECISION_PROMPT, Question, label_token_ids, parse_questions

from engine.evaluation.metrics.answer_format import ValidationBudget, find_schema_error
from engine.models.token_stream import find_special_tokens
from engine.models.tokenization.call_form import CallForm
from engine.models.tokenization.rendering import render_conversation
from engine.models.tokenization.tool_turns import StoredCall
from engine.serving.protocol.answers import AnswerToolCall, RequestError, TokenLogprob
from engine.serving.protocol.request_bodies import ChatBody, DecisionBody
from engine.serving.protocol.tools import MAX_CALLS
from store.core.schemas import JsonObject
from store.serving.schemas import LabelSettings

SPACES: Any = {"whitespace_pattern": r"\n?[ ]{0,16}"}  # otherwise a model may generate white space endlessly


class Grammars:
    """Builder of constraints for one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: frozenset[int]) -> None:
        self._tokenizer_args = (tokenizer, vocabulary, sorted(ends))
        self._tokenizer: LLTokenizer | None = None

    def build_schema_constraint(self, schema: Mapping[str, object]) -> GrammarState:
        """Return a constraint to the schema. Raises RequestError for an unsupported one."""
        tokenizer = self._get_tokenizer()
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=SPACES)
            invalid, warnings = LLMatcher.validate_grammar_with_warnings(grammar, tokenizer)
        except ValueError as error:
            invalid, warnings = True, [str(error)]
        if invalid:
            raise RequestError(
                f"The JSON schema can't be held to: {' '.join(warnings)[:300]}", field="response_format"
            )
        return GrammarState(LLMatcher(tokenizer, grammar, log_level=0), "response_format")

    def build_call_constraint(
        self, form: CallForm, functions: Mapping[str, Mapping[str, object]], *, required: bool, multiple: bool
    ) -> GrammarState:
        """Return a constraint to calls of these functions (name -> schema of arguments), in the given form.

        `required`: nothing but calls; `multiple`: more than one. Raises RequestError for unsupported schemas.
        """
        grammar = self._write_call_grammar(
            form, functions, required=required, multiple=multiple and form.between is not None
        )
        try:
            invalid, warnings = LLMatcher.validate_grammar_with_warnings(grammar, self._get_tokenizer())
        except ValueError as error:
            invalid, warnings = True, [str(error)]
        if invalid:
            raise RequestError(
                "The schemas of the functions can't be held to, which tool_choice and strict ask for:"
                f" {' '.join(warnings).partition(chr(10))[0][:300]}",
                field="tools",
            )
        return GrammarState(LLMatcher(self._get_tokenizer(), grammar, log_level=0), "tools")

    def _write_call_grammar(
        self, form: CallForm, functions: Mapping[str, Mapping[str, object]], *, required: bool, multiple: bool
    ) -> str:
        calls, arguments = [], []
        for index, (name, schema) in enumerate(functions.items()):
            start = self._write_literal(form.head + name + form.middle)
            tail = self._write_literal(form.tail)
            if form.written_id:
                tail = " CALL_ID ".join(map(self._write_literal, form.tail.split(form.written_id)))
            calls.append(f"{start} arguments_{index} {tail}")
            # The schema is the root of its own grammar, so that its references stay valid.
            compiled = {**schema, "type": "object", "x-guidance": SPACES}
            arguments.append(f"arguments_{index}: %json {json.dumps(compiled)}")
        repeat = f" ({self._write_literal(form.between or '')} call)*" if multiple else ""
        lines = [
            f"calls: {self._write_literal(form.opening)} call{repeat} {self._write_literal(form.closing)}",
            "call: " + " | ".join(calls),
            *arguments,
            *([f"CALL_ID: /[a-zA-Z0-9]{{{len(form.written_id)}}}/"] if form.written_id else []),
        ]
        if required:
            return "\n".join(["start: calls", *lines])
        if not form.marker:  # an answer is calls, or starts unlike any call
            return "\n".join(["start: TEXT? | calls", r"TEXT: /[^{\s](.|\n)*/", *lines])
        rest = form.opening.partition(form.marker)[2]
        lines[0] = lines[0].replace(self._write_literal(form.opening), self._write_literal(rest), 1)
        if (marker := self._write_literal(form.marker)).startswith(
            "<["
        ):  # a special token, which no text contains
            return "\n".join([f"start: TEXT? | TEXT? {marker} calls", r"TEXT: /(.|\n)+/", *lines])
        pattern = re.escape(form.marker).replace("/", r"\/")
        text = rf"TEXT: /(.|\n)+/ & ~/(.|\n)*{pattern}(.|\n)*/"
        return "\n".join(["start: TEXT? | before calls", text, rf"before[lazy]: /(.|\n)*{pattern}/", *lines])

    def _write_literal(self, text: str) -> str:
        """Write a text as a literal of the grammar, with special tokens by id."""
        guidance_tokenizer, tokenizer = self._get_tokenizer(), self._tokenizer_args[0]
        special = {
            added.content: token
            for token, added in tokenizer.added_tokens_decoder.items()
            if guidance_tokenizer.is_special_token(token)
        }
        pieces = re.split("(" + "|".join(map(re.escape, special)) + ")", text) if special else [text]
        written = (
            f"<[{special[piece]}]>" if piece in special else json.dumps(piece, ensure_ascii=False)
            for piece in pieces
            if piece
        )
        return " ".join(written) or '""'

    def decode_token(self, token: int) -> str:
        """Decode a single token, with special tokens by name."""
        return str(self._tokenizer_args[0].decode([token], clean_up_tokenization_spaces=False))

    def describe_token(self, token: int, logprob: float) -> TokenLogprob:
        """Return a token in the API's form, with special tokens by name."""
        text, tokenizer = self.decode_token(token), self._get_tokenizer()
        pieces = text.encode() if tokenizer.is_special_token(token) else tokenizer.decode_bytes([token])
        return {"token": text, "logprob": logprob, "bytes": list(pieces)}

    def _get_tokenizer(self) -> LLTokenizer:
        if self._tokenizer is None:
            tokenizer, vocabulary, ends = self._tokenizer_args
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
        return self._tokenizer


class GrammarState:
    """State of one answer within its grammar."""

    def __init__(self, matcher: LLMatcher, field: str) -> None:
        self._matcher, self._field = matcher, field

    def copy(self) -> GrammarState:
        """Return a copy for another answer."""
        return GrammarState(self._matcher.deep_copy(), self._field)

    def forbid(self, scores: torch.Tensor) -> None:
        """Set the logits [vocabulary] of disallowed tokens to -inf, in place.

        Raises RequestError if no token is allowed.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(scores)].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            reason = self._matcher.get_error().partition("\n")[
                0
            ]  # the following lines are the parser's state
            raise RequestError(f"The JSON schema could not be followed: {reason[:300]}.", field=self._field)
        scores.masked_fill_(torch.from_numpy(~allowed).to(scores.device), -torch.inf)

    def accept(self, token: int) -> bool:
        """Consume the chosen token; return whether more may follow."""
        self._matcher.consume_token(token)
        return not self._matcher.is_stopped()


# Function calls in answers: what a request offers, and what each choice called.
#
# A call is returned complete: its text is held back until the answer ends, and becomes a call if it is JSON
# that calls an offered function. Anything else stays text. Arguments that don't fit their schema are returned
# as they are, like in OpenAI's API, and counted as invalid, as are malformed calls.

ID_LETTERS = string.ascii_letters + string.digits
CHECK_SECONDS = 2.0  # for all calls of an answer; the remaining ones count as invalid
ID_LENGTH = 9  # Mistral's templates only accept nine letters and digits; all others accept any id


@dataclass(frozen=True)
class ToolOffer:
    """What one request offers to call.

    - schemas: of each function's arguments
    - multiple: allow more than one call
    """

    form: CallForm
    schemas: Mapping[str, JsonObject]
    multiple: bool
    special_tokens: frozenset[int]  # special tokens used to write calls
    constraint: GrammarState | None

    def create_reader(self) -> CallReader:
        """Return a reader for one choice."""
        return CallReader(self)


def build_tool_offer(
    body: ChatBody, form: CallForm, grammars: Grammars, tokenizer: object
) -> ToolOffer | None:
    """Build the request's offer; None if the answer may call nothing. Raises RequestError."""
    functions = body.callable_functions
    if not functions:
        return None
    if body.response_format and body.response_format.required_schema is not None:
        raise RequestError(
            "response_format and tools ask for different answers; leave one out, or set tool_choice to none.",
            field="response_format",
        )
    schemas = {name: function.schema_ for name, function in functions.items()}
    multiple = body.parallel_tool_calls is not False
    constraint = None
    if body.must_call or all(function.strict for function in functions.values()):
        constraint = grammars.build_call_constraint(form, schemas, required=body.must_call, multiple=multiple)
    elif any(function.strict for function in functions.values()):
        raise RequestError("strict is of all functions or of none.", field="tools")
    written = f"{form.opening}{form.between}{form.closing}"
    special_tokens = {
        token for token in find_special_tokens(tokenizer) if grammars.decode_token(token) in written
    }
    return ToolOffer(form, schemas, multiple, frozenset(special_tokens), constraint)


@dataclass
class ToolAnswer:
    """Result of an answer's end. text: what can be released now."""

    text: str = ""
    calls: list[AnswerToolCall] = field(default_factory=list)
    invalid: int = 0


class CallReader:
    """Reader of one choice while it is generated."""

    def __init__(self, offer: ToolOffer) -> None:
        self._offer, self._buffer = offer, ""
        self._is_text = False  # for a form without a marker: it didn't start like a call

    def add(self, text: str) -> str:
        """Add text, and return what can be released."""
        if self._is_text:
            return text
        self._buffer += text
        released_length = self._offer.form.free(self._buffer)
        released, self._buffer = self._buffer[:released_length], self._buffer[released_length:]
        self._is_text = bool(released) and not self._offer.form.marker
        return released

    def finish(self, *, truncated: bool) -> ToolAnswer:
        """Return the rest of the answer. Takes up to CHECK_SECONDS.

        `truncated`: the answer is truncated, so that an incomplete call doesn't count as invalid.
        """
        result, form, checker = ToolAnswer(), self._offer.form, _ArgumentCheck(self._offer.schemas)
        for piece in form.read(self._buffer):
            if isinstance(piece, str):
                result.text += piece
                result.invalid += not truncated and not self._is_text and form.may_call(piece)
                continue
            for call in piece:
                self._add_call(call, result, checker)
        if result.calls:
            result.text = result.text.rstrip()
        return result

    def _add_call(self, call: StoredCall, result: ToolAnswer, checker: _ArgumentCheck) -> None:
        arguments = json.dumps(call.get("arguments"), ensure_ascii=False)
        if call["name"] not in self._offer.schemas:
            result.text += json.dumps(call, ensure_ascii=False)
            result.invalid += 1
            return
        if len(result.calls) >= (MAX_CALLS if self._offer.multiple else 1):
            return
        result.invalid += not checker.is_valid(call["name"], arguments)
        call_id = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
        result.calls.append(
            {"id": call_id, "type": "function", "function": {"name": call["name"], "arguments": arguments}}
        )


class _ArgumentCheck:
    """Validator of the arguments in one answer's calls against their functions' schemas."""

    def __init__(self, schemas: Mapping[str, JsonObject]) -> None:
        self._schemas = schemas
        self._budget: ValidationBudget | None = None  # created on the first call
        self._validators: dict[str, object] = {}

    def is_valid(self, name: str, arguments: str) -> bool:
        """Return whether the arguments fit; false if that can't be checked."""
        try:
            self._budget = self._budget or ValidationBudget(CHECK_SECONDS)
            if name not in self._validators:
                self._validators[name] = self._budget.validator(self._schemas[name])
            return find_schema_error(self._validators[name], arguments, fenced=False) is None
        except Exception:  # noqa: BLE001 (whatever the library makes of it, the answer is whole)
            return False


# Typed questions about a state: a probability for each option, from the logits of the options' labels.
#
# Questions, prompts and answers have the form of transformers' decision models, whose own parser checks them.
# Any chat model can be used: its prompt lists the options with their labels, and nothing is generated.

PLAIN_DECISIONS = LabelSettings(temperature=1.0, threshold=None)


@dataclass(frozen=True)
class DecisionQuestion:
    """One question as a prompt; `labels`: the token of each option."""

    question: Any
    prompt: list[int]
    labels: list[int]


class DecisionReader:
    """Reader of questions and writer of their answers, which counts abstentions."""

    def __init__(self, settings: LabelSettings | None) -> None:
        self._settings = settings or PLAIN_DECISIONS
        self._requested = self._answered = 0
        self._template = Environment(autoescape=False).from_string(DECISION_PROMPT)

    def read(self, body: DecisionBody, tokenizer: Any) -> list[DecisionQuestion]:
        """Parse a request's questions. Raises RequestError, with status 422 for malformed questions."""
        try:
            questions = parse_questions(body.questions, DecisionConfig())
        except ValueError as error:
            raise RequestError(str(error), status=422, field="questions") from error
        return [self._build_question(question, body.state, tokenizer) for question in questions]

    def _build_question(self, question: Question, state: Any, tokenizer: Any) -> DecisionQuestion:
        try:
            labels = label_token_ids(tokenizer, tuple(question.labels))
        except ValueError as error:
            raise RequestError(str(error), field="questions") from error
        text = self._template.render(state=state, question=question)
        prompt = render_conversation(tokenizer, [{"role": "user", "content": text}], generation_prompt=True)
        return DecisionQuestion(question, tokenizer(prompt, add_special_tokens=False).input_ids, labels)

    def build_answers(
        self, questions: Sequence[DecisionQuestion], scores: Sequence[torch.Tensor]
    ) -> JsonObject:
        """Return the answer to each question, from the logits of the token after its prompt."""
        answers = {}
        for question, logits in zip(questions, scores, strict=True):
            probabilities = (logits[torch.tensor(question.labels)] / self._settings.temperature).softmax(-1)
            answer = question.question.answer(probabilities.tolist())
            threshold = self._settings.threshold
            if threshold is not None:
                self._requested += 1
                abstained = float(probabilities.max()) < threshold
                self._answered += not abstained
                answer |= {"abstained": abstained, "threshold": threshold}
                answer |= {"coverage": self._answered / self._requested, "asked": self._requested}
            answers[question.question.name] = answer
        return answers
