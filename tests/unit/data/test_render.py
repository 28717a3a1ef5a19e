"""The label mask, token by token: what is trained is the answer and its closing token, nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from engine.models.tokenization.rendering import TokenRows, compute_fitting_length, render, render_prompt
from store.core.model_folders import TEMPLATES
from tests.tiny import make_tokenizer

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you — später"},
]
# As Qwen3 does: the reasoning of earlier turns is dropped, the last turn keeps an (empty) one.
DROPS_REASONING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
COUNTS_TURNS = (
    "{{ messages | length }}{% for m in messages %}{{ m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
)
REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def trained_text(tokenizer: object, rows: TokenRows, index: int = 0) -> list[str]:
    """The runs of trained tokens, decoded."""
    ids, trained = rows.row(index)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], trained.astype(int), [0]])))
    return [tokenizer.decode(ids[a:b]) for a, b in edges.reshape(-1, 2)]


def test_answers_and_their_closing_tokens_are_trained() -> None:
    tokenizer = make_tokenizer()
    rows = render(tokenizer, [7], [CHAT])
    assert trained_text(tokenizer, rows) == ["Hello<|im_end|>", "See you — später<|im_end|>"]
    assert tokenizer.decode(rows.row(0)[0]) == tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert rows.row_ids.tolist() == [7]
    assert rows.reason_counts == {}


def test_all_tokens_but_the_first_without_completion_only() -> None:
    rows = render(make_tokenizer(), [0], [CHAT], completion_only=False)
    ids, trained = rows.row(0)
    assert not trained[0]
    assert trained[1:].all()
    assert rows.trained_counts.tolist() == [len(ids) - 1]


def test_a_text_is_trained_whole_and_closed() -> None:
    tokenizer = make_tokenizer()
    rows = render(tokenizer, [0, 1], ["Once upon", ""])
    assert trained_text(tokenizer, rows) == ["nce upon<|im_end|>"]
    assert rows.trained_counts.tolist() == [len("Once upon"), 0]
    assert rows.lengths.tolist() == [10, 1]
    assert rows.reason_counts == {"the row has nothing after its first token": 1}


def test_a_template_that_rewrites_earlier_turns_is_followed() -> None:
    tokenizer = make_tokenizer(DROPS_REASONING)
    rows = render(tokenizer, [0], [CHAT])
    assert trained_text(tokenizer, rows) == [
        "Hello<|im_end|>",
        "<think>\n\n</think>\n\nSee you — später<|im_end|>",
    ]


def test_a_template_whose_prefixes_differ_is_reported_not_guessed() -> None:
    rows = render(make_tokenizer(COUNTS_TURNS), [0, 1], [CHAT, CHAT])
    assert rows.trained_counts.tolist() == [0, 0]
    assert rows.reason_counts == {
        "the chat template renders the turns differently in the whole conversation": 2
    }


def test_rows_that_the_template_refuses_do_not_take_others_with_them() -> None:
    tokenizer = make_tokenizer(REFUSES_SYSTEM)
    rows = render(tokenizer, [0, 1, 2], [CHAT[1:3], CHAT, CHAT[1:3]])
    assert rows.lengths[1] == 0
    assert trained_text(tokenizer, rows, 2) == ["Hello<|im_end|>"]
    assert rows.reason_counts == {"the chat template rejects the row": 1}


def test_a_row_without_an_answer_has_no_trained_token() -> None:
    rows = render(make_tokenizer(), [0], [CHAT[:2]])
    assert rows.trained_counts.tolist() == [0]
    assert rows.reason_counts == {"the row has no assistant turn": 1}


def test_base_models_get_a_plain_template_that_closes_answers() -> None:
    tokenizer = make_tokenizer("{{ bos_token }}" + TEMPLATES["headings"])
    rows = render(tokenizer, [0], [CHAT[1:3]])
    text = tokenizer.decode(rows.row(0)[0])
    assert text == "<|im_start|>### User:\nHi\n### Assistant:\nHello<|im_end|>\n"
    assert trained_text(tokenizer, rows) == ["Hello<|im_end|>"]


def test_the_prompt_of_a_row_ends_where_the_answer_begins() -> None:
    tokenizer = make_tokenizer()
    prompt, answer = render_prompt(tokenizer, CHAT)
    assert prompt.endswith("Bye<|im_end|>\n<|im_start|>assistant\n")
    assert answer == "See you — später"
    assert render_prompt(tokenizer, CHAT[:2]) is None


def test_truncation_keeps_the_beginning_and_counts_what_is_lost() -> None:
    rows = render(make_tokenizer(), [0, 1], [CHAT, CHAT[1:3]])
    cut, truncated, lost = rows.truncated(60)
    assert truncated == 1
    assert cut.lengths.tolist() == [60, rows.lengths[1]]
    assert (cut.row(0)[0] == rows.row(0)[0][:60]).all()
    assert rows.truncated(20)[0].reason_counts == {"the answer is beyond max_length": 2}
    assert lost == rows.trained_counts.sum() - cut.trained_counts.sum() > 0


def test_rows_are_taken_in_any_order() -> None:
    rows = render(make_tokenizer(), [5, 3, 9], [CHAT, CHAT[1:3], CHAT[:3]])
    chosen = rows.select([9, 5])
    assert chosen.row_ids.tolist() == [9, 5]
    for index, old in enumerate((2, 0)):
        assert (chosen.row(index)[0] == rows.row(old)[0]).all()
        assert (chosen.row(index)[1] == rows.row(old)[1]).all()


@pytest.mark.parametrize(("positions", "expected"), [(None, 96), (64, 64)])
def test_the_fitting_length_is_the_99th_percentile_or_what_costs_next_to_nothing(
    positions: int | None, expected: int
) -> None:
    lengths = np.asarray([90] * 99 + [1000])
    assert compute_fitting_length(lengths[:-1], positions) == expected
    assert compute_fitting_length(np.asarray([10] * 1000 + [500]), None) == 504  # 4.8% more tokens
    assert compute_fitting_length(np.asarray([10] * 1000 + [500] * 2), None) == 16  # 9.7% more
    assert compute_fitting_length(np.asarray([10] * 1000 + [30, 500, 500]), None) == 32
    assert (
        compute_fitting_length(np.asarray([10] * 100_000 + [4000]), None) == 16
    )  # one row would cost memory
    tweets = np.asarray([40] * 1133 + [90, 95, 100, 110])
    assert compute_fitting_length(tweets, None) == 112
