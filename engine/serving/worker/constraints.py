"""Answers that must be JSON, fit a JSON schema, or call functions: which tokens may come next, by
llguidance's automaton, which knows each token's bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from engine.rows.call_form import CallForm
from engine.serving.protocol.forms import TokenLogprob
from engine.serving.protocol.refusals import Refused

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
            raise Refused(f"The JSON schema can't be held to: {' '.join(why)[:300]}", field="response_format")
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
            raise Refused(
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
            raise Refused(f"The JSON schema could not be followed: {why[:300]}.", field=self._field)
        scores.masked_fill_(torch.from_numpy(~allowed).to(scores.device), -torch.inf)

    def accept(self, token: int) -> bool:
        """Take the token that was chosen; whether more may follow."""
        self._matcher.consume_token(token)
        return not self._matcher.is_stopped()
