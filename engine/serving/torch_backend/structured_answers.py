"""Answers that must have a form: JSON, a JSON schema, calls of functions, or one of given options.

Which tokens may come next is a grammar's to say; what a model wrote is read as calls and held against what
the request offers; a typed question gets a probability for each option.
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

SPACES: Any = {"whitespace_pattern": r"\n?[ ]{0,16}"}  # else a model may write blanks without end


class Grammars:
    """Makes constraints for one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: frozenset[int]) -> None:
        self._given = (tokenizer, vocabulary, sorted(ends))
        self._tokenizer: LLTokenizer | None = None

    def of_schema(self, schema: Mapping[str, object]) -> GrammarState:
        """One that lets through what fits the schema. Raises Refused for one that can't be held to."""
        own = self._own()
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=SPACES)
            wrong, why = LLMatcher.validate_grammar_with_warnings(grammar, own)
        except ValueError as error:
            wrong, why = True, [str(error)]
        if wrong:
            raise RequestError(
                f"The JSON schema can't be held to: {' '.join(why)[:300]}", field="response_format"
            )
        return GrammarState(LLMatcher(own, grammar, log_level=0), "response_format")

    def of_calls(
        self, form: CallForm, functions: Mapping[str, Mapping[str, object]], *, must: bool, many: bool
    ) -> GrammarState:
        """One that lets through calls of these functions (name -> schema of arguments), as the form has them.
        must: nothing but calls; many: more than one. Raises Refused for schemas that can't be held to."""
        grammar = self._call_grammar(form, functions, must=must, many=many and form.between is not None)
        try:
            wrong, why = LLMatcher.validate_grammar_with_warnings(grammar, self._own())
        except ValueError as error:
            wrong, why = True, [str(error)]
        if wrong:
            raise RequestError(
                "The schemas of the functions can't be held to, which tool_choice and strict ask for:"
                f" {' '.join(why).partition(chr(10))[0][:300]}",
                field="tools",
            )
        return GrammarState(LLMatcher(self._own(), grammar, log_level=0), "tools")

    def _call_grammar(
        self, form: CallForm, functions: Mapping[str, Mapping[str, object]], *, must: bool, many: bool
    ) -> str:
        calls, arguments = [], []
        for place, (name, schema) in enumerate(functions.items()):
            before = self._literal(form.head + name + form.middle)
            tail = self._literal(form.tail)
            if form.written_id:
                tail = " CALL_ID ".join(map(self._literal, form.tail.split(form.written_id)))
            calls.append(f"{before} arguments_{place} {tail}")
            # The schema is the root of its own grammar, so that what it refers to stays where it is.
            compiled = {**schema, "type": "object", "x-guidance": SPACES}
            arguments.append(f"arguments_{place}: %json {json.dumps(compiled)}")
        more = f" ({self._literal(form.between or '')} call)*" if many else ""
        lines = [
            f"calls: {self._literal(form.opening)} call{more} {self._literal(form.closing)}",
            "call: " + " | ".join(calls),
            *arguments,
            *([f"CALL_ID: /[a-zA-Z0-9]{{{len(form.written_id)}}}/"] if form.written_id else []),
        ]
        if must:
            return "\n".join(["start: calls", *lines])
        if not form.marker:  # an answer is calls, or begins as none does
            return "\n".join(["start: TEXT? | calls", r"TEXT: /[^{\s](.|\n)*/", *lines])
        rest = form.opening.partition(form.marker)[2]
        lines[0] = lines[0].replace(self._literal(form.opening), self._literal(rest), 1)
        if (marker := self._literal(form.marker)).startswith("<["):  # a special token, which no text can hold
            return "\n".join([f"start: TEXT? | TEXT? {marker} calls", r"TEXT: /(.|\n)+/", *lines])
        inside = re.escape(form.marker).replace("/", r"\/")
        text = rf"TEXT: /(.|\n)+/ & ~/(.|\n)*{inside}(.|\n)*/"
        return "\n".join(["start: TEXT? | before calls", text, rf"before[lazy]: /(.|\n)*{inside}/", *lines])

    def _literal(self, text: str) -> str:
        """A text as the grammar has it, of special tokens their numbers."""
        own, tokenizer = self._own(), self._given[0]
        special = {
            added.content: token
            for token, added in tokenizer.added_tokens_decoder.items()
            if own.is_special_token(token)
        }
        pieces = re.split("(" + "|".join(map(re.escape, special)) + ")", text) if special else [text]
        written = (
            f"<[{special[piece]}]>" if piece in special else json.dumps(piece, ensure_ascii=False)
            for piece in pieces
            if piece
        )
        return " ".join(written) or '""'

    def text_of(self, token: int) -> str:
        """A token by itself, special ones by their names."""
        return str(self._given[0].decode([token], clean_up_tokenization_spaces=False))

    def entry(self, token: int, logprob: float) -> TokenLogprob:
        """A token as the protocol has it, special ones by their names."""
        text, own = self.text_of(token), self._own()
        pieces = text.encode() if own.is_special_token(token) else own.decode_bytes([token])
        return {"token": text, "logprob": logprob, "bytes": list(pieces)}

    def _own(self) -> LLTokenizer:
        if self._tokenizer is None:
            tokenizer, vocabulary, ends = self._given
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
        return self._tokenizer


class GrammarState:
    """Where one answer is in its grammar."""

    def __init__(self, matcher: LLMatcher, field: str) -> None:
        self._matcher, self._field = matcher, field

    def copy(self) -> GrammarState:
        """For another answer that begins alike."""
        return GrammarState(self._matcher.deep_copy(), self._field)

    def forbid(self, scores: torch.Tensor) -> None:
        """-inf, in place, for tokens [vocabulary] that may not come next. Raises Refused where none may."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(scores)].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            why = self._matcher.get_error().partition("\n")[0]  # below it stands the state of the parser
            raise RequestError(f"The JSON schema could not be followed: {why[:300]}.", field=self._field)
        scores.masked_fill_(torch.from_numpy(~allowed).to(scores.device), -torch.inf)

    def accept(self, token: int) -> bool:
        """Take the token that was chosen; whether more may follow."""
        self._matcher.consume_token(token)
        return not self._matcher.is_stopped()


# Calls of functions in answers: of one request what may be called, and of each choice what was.
#
# A call comes whole: its text is held back until the answer has ended, and becomes a call where it is JSON
# of a function that was offered. What is none stays text. Arguments that don't fit their schema are passed
# on, as the protocol has it, and counted as invalid, with what was meant for a call and is none.

ID_LETTERS = string.ascii_letters + string.digits
CHECK_SECONDS = 2.0  # for all calls of an answer; those that are left count as invalid
ID_LENGTH = 9  # templates of Mistral take ids of nine letters and digits alone, all others any


@dataclass(frozen=True)
class ToolOffer:
    """What one request offers. schemas: of the arguments of each function; many: more than one call."""

    form: CallForm
    schemas: Mapping[str, JsonObject]
    many: bool
    kept: frozenset[int]  # special tokens with which calls are written
    constraint: GrammarState | None

    def reader(self) -> CallReader:
        """For one choice."""
        return CallReader(self)


def build_tool_offer(
    body: ChatBody, form: CallForm, grammars: Grammars, tokenizer: object
) -> ToolOffer | None:
    """None where the answer may call nothing. Raises Refused."""
    functions = body.offered
    if not functions:
        return None
    if body.response_format and body.response_format.wanted is not None:
        raise RequestError(
            "response_format and tools ask for different answers; leave one out, or set tool_choice to none.",
            field="response_format",
        )
    schemas = {name: function.schema_ for name, function in functions.items()}
    many = body.parallel_tool_calls is not False
    constraint = None
    if body.must_call or all(function.strict for function in functions.values()):
        constraint = grammars.of_calls(form, schemas, must=body.must_call, many=many)
    elif any(function.strict for function in functions.values()):
        raise RequestError("strict is of all functions or of none.", field="tools")
    written = f"{form.opening}{form.between}{form.closing}"
    kept = {token for token in find_special_tokens(tokenizer) if grammars.text_of(token) in written}
    return ToolOffer(form, schemas, many, frozenset(kept), constraint)


@dataclass
class ToolAnswer:
    """What an answer came to at its end. text: what of it is free yet."""

    text: str = ""
    calls: list[AnswerToolCall] = field(default_factory=list)
    invalid: int = 0


class CallReader:
    """Reads one choice as it is made."""

    def __init__(self, calling: ToolOffer) -> None:
        self._calling, self._held = calling, ""
        self._is_text = False  # of a form without a marker: it did not begin as a call

    def add(self, text: str) -> str:
        """What is free of the answer, now that it goes on with this."""
        if self._is_text:
            return text
        self._held += text
        count = self._calling.form.free(self._held)
        free, self._held = self._held[:count], self._held[count:]
        self._is_text = bool(free) and not self._calling.form.marker
        return free

    def end(self, *, cut: bool) -> ToolAnswer:
        """The rest of it. cut: it is not whole, so that a call that breaks off is no mistake. Takes up to
        CHECK_SECONDS."""
        ended, form, fitting = ToolAnswer(), self._calling.form, _ArgumentCheck(self._calling.schemas)
        for piece in form.read(self._held):
            if isinstance(piece, str):
                ended.text += piece
                ended.invalid += not cut and not self._is_text and form.may_call(piece)
                continue
            for call in piece:
                self._take(call, ended, fitting)
        if ended.calls:
            ended.text = ended.text.rstrip()
        return ended

    def _take(self, call: StoredCall, ended: ToolAnswer, fitting: _ArgumentCheck) -> None:
        arguments = json.dumps(call.get("arguments"), ensure_ascii=False)
        if call["name"] not in self._calling.schemas:
            ended.text += json.dumps(call, ensure_ascii=False)
            ended.invalid += 1
            return
        if len(ended.calls) >= (MAX_CALLS if self._calling.many else 1):
            return
        ended.invalid += not fitting.fits(call["name"], arguments)
        call_id = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
        ended.calls.append(
            {"id": call_id, "type": "function", "function": {"name": call["name"], "arguments": arguments}}
        )


class _ArgumentCheck:
    """Arguments of one answer's calls, held to the schemas of their functions."""

    def __init__(self, schemas: Mapping[str, JsonObject]) -> None:
        self._schemas = schemas
        self._checking: ValidationBudget | None = None  # made for an answer that calls
        self._validators: dict[str, object] = {}

    def fits(self, name: str, arguments: str) -> bool:
        """Whether they do; not, where that can't be checked."""
        try:
            self._checking = self._checking or ValidationBudget(CHECK_SECONDS)
            if name not in self._validators:
                self._validators[name] = self._checking.validator(self._schemas[name])
            return find_schema_error(self._validators[name], arguments, fenced=False) is None
        except Exception:  # noqa: BLE001 (whatever the library makes of it, the answer is whole)
            return False


# Typed questions about a state: a probability for each option, from the scores of the options' labels.
#
# Questions, prompts and answers have the form of transformers' decision models, whose own reader checks them.
# Any model that chats can be asked: it is shown the options with their labels, and nothing is written.

PLAIN_DECISIONS = LabelSettings(temperature=1.0, threshold=None)


@dataclass(frozen=True)
class DecisionQuestion:
    """One question as the model is asked it; `labels`: the token of each option."""

    question: Any
    prompt: list[int]
    labels: list[int]


class DecisionReader:
    """Reads questions and writes answers; counts how many it abstained from."""

    def __init__(self, settings: LabelSettings | None) -> None:
        self._settings = settings or PLAIN_DECISIONS
        self._asked = self._answered = 0
        self._template = Environment(autoescape=False).from_string(DECISION_PROMPT)

    def read(self, body: DecisionBody, tokenizer: Any) -> list[DecisionQuestion]:
        """The questions of a request. Raises Refused, of status 422 for questions of a wrong form."""
        try:
            questions = parse_questions(body.questions, DecisionConfig())
        except ValueError as error:
            raise RequestError(str(error), status=422, field="questions") from error
        return [self._question(question, body.state, tokenizer) for question in questions]

    def _question(self, question: Question, state: Any, tokenizer: Any) -> DecisionQuestion:
        try:
            labels = label_token_ids(tokenizer, tuple(question.labels))
        except ValueError as error:
            raise RequestError(str(error), field="questions") from error
        text = self._template.render(state=state, question=question)
        prompt = render_conversation(tokenizer, [{"role": "user", "content": text}], generation_prompt=True)
        return DecisionQuestion(question, tokenizer(prompt, add_special_tokens=False).input_ids, labels)

    def answers(self, questions: Sequence[DecisionQuestion], scores: Sequence[torch.Tensor]) -> JsonObject:
        """The answer to each question, from the scores of the token after its prompt."""
        answers = {}
        for asked, own in zip(questions, scores, strict=True):
            chances = (own[torch.tensor(asked.labels)] / self._settings.temperature).softmax(-1)
            answer = asked.question.answer(chances.tolist())
            threshold = self._settings.threshold
            if threshold is not None:
                self._asked += 1
                abstained = float(chances.max()) < threshold
                self._answered += not abstained
                answer |= {"abstained": abstained, "threshold": threshold}
                answer |= {"coverage": self._answered / self._asked, "asked": self._asked}
            answers[asked.question.name] = answer
        return answers
