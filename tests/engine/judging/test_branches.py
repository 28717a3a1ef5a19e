"""Answers that share a prompt: their log-probabilities are those of each after the whole prompt, whatever
their number, their lengths and how they begin."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Mamba2Config, Mamba2ForCausalLM

from engine.models.forward import answer_likelihood, llama_layers, packed_forward
from engine.models.forward.answer_likelihood import compute_branch_logits, score_branches, score_one_by_one
from engine.models.tuning_methods import make_trainable
from engine.training.costs import rehearsal
from store.training.train_config import TrainConfig
from tests.engine.training.test_packed import base, stirred

CPU = torch.device("cpu")


def drawn(seed: int = 0) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Prompts of which most begin alike, each with branches of its own."""
    random = np.random.default_rng(seed)

    def ids(length: int) -> list[int]:
        return random.integers(3, 200, length).tolist()

    shared, many = ids(21), [ids(1 + i % 7) for i in range(60)]
    prompts = [shared + ids(n) for n in (3, 40, 9, 1)] + [ids(5), ids(1)]
    some = [
        [ids(1), ids(9), ids(4)],  # ragged
        many + [branch + ids(1 + i % 3) for i, branch in enumerate(many)],  # each begins another
        [[7, 8], [7, 8, 9, 10], [7], [7, 8, 9, 11], [7, 8, 9, 10]],  # one twice
        [ids(6)],
        [ids(1)],
        [ids(2), ids(1)],
    ]
    return prompts, some


def assert_equal(model: Any, prompts: Any, some: Any) -> None:
    model.eval()
    scores = score_branches(model, prompts, some, CPU)
    whole = score_one_by_one(model, prompts, some, CPU)
    assert [len(each) for each in scores] == [len(each) for each in some]
    for mine, theirs in zip(scores, whole, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_in_the_packed_forward(architecture: str) -> None:
    model = base(architecture).eval()
    assert llama_layers.explain_refusal(model, 100) == ""
    assert_equal(model, *drawn())


def test_logits_of_every_token_in_the_order_of_the_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of few tokens, too; each is what the model's own forward says after the whole text."""
    model = base("llama").eval()
    prompts, some = drawn()
    parts = llama_layers.recognise_model(model, 100)
    assert not isinstance(parts, str)
    for tokens in (2048, 60):
        monkeypatch.setitem(packed_forward.MAX_BATCH_TOKENS, "cpu", tokens)
        made = list(compute_branch_logits(packed_forward.PackedForward(parts), prompts, some))
        assert [len(each) for each in made] == [len(each) for each in some]
        for prompt, texts, arrays in zip(prompts, some, made, strict=True):
            for text, logits in zip(texts, arrays, strict=True):
                with torch.inference_mode():
                    whole = model(input_ids=torch.tensor([[*prompt, *text]])).logits[0].numpy()
                assert logits.dtype == np.float32
                assert logits == pytest.approx(whole[len(prompt) - 1 : -1], abs=1e-4)


@pytest.mark.parametrize(
    "fields", [{}, {"lora_dropout": 0.5}, {"use_dora": True}, {"method": "prefix_tuning"}, {"method": "ia3"}]
)
def test_under_an_adapter(fields: dict[str, Any]) -> None:
    config = TrainConfig.parse({"dataset": "d", "r": 4, "dtype": "float32"} | fields).resolved(100)
    assert_equal(stirred(make_trainable(base(), config, torch.float32)), *drawn())


def test_in_the_own_forward_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that is not packed, in batches of few tokens with logits."""
    torch.manual_seed(0)
    model = stirred(GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4))).eval()
    assert llama_layers.explain_refusal(model, 100)
    assert answer_likelihood.explain_mask_refusal(model, 100) == ""
    monkeypatch.setattr(answer_likelihood.losses, "LOGIT_BYTES", 259 * answer_likelihood.losses.LOGIT * 50)
    monkeypatch.setattr(answer_likelihood, "score_one_by_one", None)  # must not be needed
    prompts, some = drawn()
    scores = score_branches(model, prompts, some, CPU)
    for mine, theirs in zip(scores, score_one_by_one(model, prompts, some, CPU), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_models_that_cannot_be_asked_with_a_mask_say_why() -> None:
    """They are asked more slowly, with the same numbers."""
    shape = {"num_heads": 4, "head_dim": 16, "hidden_size": 32, "state_size": 8, "n_groups": 1}
    recurrent = Mamba2ForCausalLM(Mamba2Config(vocab_size=259, num_hidden_layers=2, **shape)).eval()
    assert "state" in answer_likelihood.explain_mask_refusal(recurrent, 100)
    short = base("mistral", sliding_window=8).eval()
    assert "window of 8" in answer_likelihood.explain_mask_refusal(short, 100)
    for model in (recurrent, short):
        assert_equal(model, *drawn())


def test_a_forward_that_ignores_the_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = base().eval()
    assert answer_likelihood.explain_mask_refusal(model, 100) == ""
    own = type(model).forward

    def heedless(self: Any, *args: Any, attention_mask: Any = None, position_ids: Any = None, **kwargs: Any):
        return own(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", heedless)
    assert "does not go by the mask" in answer_likelihood.explain_mask_refusal(model, 100)


def test_many_small_trees_and_runs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees that are parted, runs of nodes, several batches."""
    monkeypatch.setattr(answer_likelihood, "MAX_TREE_NODES", 20)
    monkeypatch.setattr(packed_forward, "MAX_RUN_NODES", 6)
    monkeypatch.setitem(packed_forward.MAX_BATCH_TOKENS, "cpu", 100)
    prompt_counts: list[int] = []
    prompts, some = drawn(1)
    model = base()
    scores = score_branches(model, prompts, some, CPU, on_prompts=prompt_counts.append)
    assert model.training
    assert len(prompt_counts) > 3
    assert prompt_counts == sorted(prompt_counts)
    assert prompt_counts[-1] == len(prompts)
    for mine, theirs in zip(scores, score_one_by_one(model, prompts, some, CPU), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("length", "vocabulary"), [(40, 4000), (600, 4000), (40, 32_000)])
@pytest.mark.parametrize(
    ("dtype", "ties"), [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)]
)
def test_memory_is_bounded_and_known_before(
    packed: bool,
    length: int,
    vocabulary: int,
    dtype: torch.dtype,
    ties: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lives at once is no more than is said, and not far below. Which prompts have ties depends on the
    processor's rounding: all of them, or none."""
    monkeypatch.setattr(answer_likelihood, "has_ties", lambda scores, some: ties)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "vocab_size": vocabulary}
    model = base(**shape).to(dtype)
    random = np.random.default_rng(0)
    prompts = [random.integers(3, 4000, length).tolist() for _ in range(8)]
    labels = [random.integers(3, 4000, 8).tolist() for _ in range(60)]
    if not packed:
        monkeypatch.setattr(llama_layers, "recognise_model", lambda model, longest: "it is not to be")
    with rehearsal.LiveMemoryTracker("cpu") as living:
        score_branches(model, prompts, [labels] * 8, CPU)
    bound = answer_likelihood.estimate_max_bytes(model.config, length, 480, dtype, "cpu", packed=packed)
    counts_ties = dtype == torch.bfloat16 and not ties  # which are not there
    assert (0.15 if counts_ties else 0.3) * bound < max(living.most) < bound


def test_nothing_is_passed_twice() -> None:
    trie = packed_forward.grow_tree([[7, 8], [7, 8, 9, 10], [7], [7, 8, 9, 11]])
    assert trie.tokens.tolist() == [7, 8, 9]  # 10 and 11 are asked for alone
    assert trie.depths.tolist() == [0, 1, 2]
    assert len(trie.asked_tokens) == 5
    assert packed_forward.count_common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert packed_forward.count_common_prefix([[1, 2], [1, 2, 4, 5]]) == 1  # one is left to each
    assert packed_forward.count_common_prefix([[1], [1]]) == 0


class Tied(NamedTuple):
    """A model of 16 bits with two tokens whose logits after a prompt are equal in them, and not in fp32."""

    model: Any
    prompt: list[int]
    tokens: tuple[int, int]
    logits: np.ndarray  # of both, in fp64


def tied(model: Any, dtype: torch.dtype) -> Tied:
    model, prompt, (first, second) = model.to(dtype).eval(), [5, 9, 6, 8], (30, 40)
    states: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, inputs, __: states.append(inputs[0].reshape(-1, 32)[-1]))
    with torch.no_grad():
        model(input_ids=torch.tensor([prompt]))
        hook.remove()
        state = states[0].double()
        head.weight[first] = 4 * state.to(dtype)  # a large logit, whose neighbours are far
        place = int(state.abs().argmax())
        head.weight[first, place] = 0.0
        head.weight[second] = head.weight[first]
        head.weight[second, place] = (0.02 / state[place]).to(dtype)
        logits = (head.weight[[first, second]].double() @ state).numpy()
    return Tied(model, prompt, (first, second), logits)


def untied(architecture: str) -> Any:
    if architecture == "gpt2":
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, tie_word_embeddings=False)
        return stirred(GPT2LMHeadModel(config))
    return base(architecture, tie_word_embeddings=False)


@pytest.mark.parametrize("way", ["packed", "masked", "one by one"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_answers_that_tie_in_16_bits_are_told_apart(
    way: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = tied(untied("gpt2" if way == "masked" else "llama"), dtype)
    if way == "one by one":
        monkeypatch.setattr(llama_layers, "recognise_model", lambda model, longest: "not now")
        monkeypatch.setattr(answer_likelihood, "explain_mask_refusal", lambda model, longest: "not now")
    branch_tokens = [[token] for token in case.tokens]
    asked = [case.prompt, case.prompt[:2]], [branch_tokens, branch_tokens]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_likelihood, "has_ties", lambda scores, some: False)
        before = score_branches(case.model, *asked, CPU)
    assert before[0][0] == before[0][1]
    counts: list[int] = []
    scores = score_branches(case.model, *asked, CPU, on_prompts=counts.append)
    assert np.diff(scores[0]) == pytest.approx(np.diff(case.logits), rel=0.1)
    assert counts == sorted(counts)
    assert not case.model.get_output_embeddings()._forward_hooks


def test_answers_that_are_the_same_are_no_tie() -> None:
    assert not answer_likelihood.has_ties(np.array([1.0, 1.0]), [[7, 8], [7, 8]])
    assert answer_likelihood.has_ties(np.array([1.0, 1.0]), [[7, 8], [7, 9]])
