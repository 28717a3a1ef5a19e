"""Multiple-choice items under a model: each option as in a whole forward of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from engine.evaluation.probes import multiple_choice
from engine.evaluation.probes.choice_items import ChoiceItem
from engine.models.tuning_methods import make_trainable, use_base_model
from store.core.errors import DataError
from store.training.train_config import TrainConfig
from tests.tiny import make_model, make_tokenizer

ITEMS = (
    ChoiceItem("a/001", "a", "What colour is snow?", ("white", "black", "blue, or perhaps green", "w"), 0),
    ChoiceItem("a/002", "a", "Is it?", ("yes", "no"), 1),
    ChoiceItem("b/001", "b", "How many?", ("one", "two", "three", "four", "five", "six", "ten"), 6),
    ChoiceItem("b/002", "b", "What colour is fresh grass in the spring?", ("green", "grey", "größer"), 0),
)


def whole_forwards(model: object, items: tuple[ChoiceItem, ...]) -> list[list[float]]:
    """Of each option the log-probability, from a forward of prompt and option alone."""
    tokenizer, scores = make_tokenizer(), []
    for item in items:
        scores.append([])
        for option in item.options:
            before = tokenizer(f"Question: {item.question}\nAnswer:").input_ids
            ids = torch.tensor([tokenizer(f"Question: {item.question}\nAnswer: {option}").input_ids])
            with torch.no_grad():
                logs = model(input_ids=ids).logits[0].log_softmax(-1)  # type: ignore[operator]
            log_probs = [logs[place - 1, ids[0, place]].item() for place in range(len(before), ids.shape[1])]
            scores[-1].append(sum(log_probs))
    return scores


def test_scores_are_those_of_whole_forwards() -> None:
    model = make_model().eval()
    item_counts: list[int] = []
    scored = multiple_choice.score_items(
        model, multiple_choice.tokenise_items(make_tokenizer(), ITEMS), "cpu", on_items=item_counts.append
    )
    expected = whole_forwards(model, ITEMS)
    for mine, theirs in zip(scored.scores, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    assert item_counts[-1] == len(ITEMS)
    assert not model.training
    assert scored.chosen.tolist() == [int(np.argmax(each)) for each in expected]
    right = [int(chosen == item.right) for chosen, item in zip(scored.chosen, ITEMS, strict=True)]
    assert scored.correct.tolist() == right
    by_byte = [
        int(np.argmax([s / len(o.encode()) for s, o in zip(each, item.options, strict=True)]))
        for each, item in zip(expected, ITEMS, strict=True)
    ]
    assert scored.chosen_per_byte.tolist() == by_byte
    losses = [-log_softmax(each)[item.right] for each, item in zip(expected, ITEMS, strict=True)]
    assert scored.losses == pytest.approx(losses, abs=1e-4)


@pytest.mark.parametrize(
    "fields",
    [{}, {"use_dora": True}, {"method": "ia3"}, {"method": "bottleneck"}, {"method": "prompt_tuning"}],
)
def test_an_untrained_adapter_changes_nothing(fields: dict[str, object]) -> None:
    asked = multiple_choice.tokenise_items(make_tokenizer(), ITEMS)
    model = make_model()
    plain = multiple_choice.score_items(model, asked, "cpu")
    assert model.training  # as it came
    config = TrainConfig.parse({"dataset": "d", "r": 4, "dtype": "float32"} | fields).resolved(100)
    model = make_trainable(make_model(), config, torch.float32)
    if fields.get("method") != "prompt_tuning":  # which is never the identity
        adapted = multiple_choice.score_items(model, asked, "cpu")
        assert np.concatenate(adapted.scores) == pytest.approx(np.concatenate(plain.scores), abs=1e-4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    changed = multiple_choice.score_items(model, asked, "cpu")
    assert np.abs(np.concatenate(changed.scores) - np.concatenate(plain.scores)).max() > 0.01
    with use_base_model(model) as base:
        again = multiple_choice.score_items(base, asked, "cpu")
    assert np.concatenate(again.scores) == pytest.approx(np.concatenate(plain.scores), abs=1e-4)


def test_a_tokenizer_that_begins_texts_begins_prompts_alone() -> None:
    from tokenizers.processors import TemplateProcessing

    plain, begun = make_tokenizer(), make_tokenizer()
    begun.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    without, with_start = (
        multiple_choice.tokenise_items(plain, ITEMS),
        multiple_choice.tokenise_items(begun, ITEMS),
    )
    assert with_start.prompts == [[1, *ids] for ids in without.prompts]
    assert with_start.options == without.options


def test_what_cannot_be_asked_is_named() -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(DataError, match=r"'a/009' has an empty option \(number 1\)"):
        multiple_choice.tokenise_items(tokenizer, [*ITEMS, ChoiceItem("a/009", "a", "What?", ("", "b"), 1)])
    with pytest.raises(DataError, match="'a/009' has no question"):
        multiple_choice.tokenise_items(tokenizer, [*ITEMS, ChoiceItem("a/009", "a", "", ("a", "b"), 1)])
    with pytest.raises(DataError, match="'b/002' has 68 tokens; the limit of the model is 67"):
        multiple_choice.tokenise_items(tokenizer, ITEMS, room=67)
    assert len(multiple_choice.tokenise_items(tokenizer, ITEMS, room=68).prompts) == 4
    assert (
        multiple_choice.score_items(
            make_model(), multiple_choice.tokenise_items(tokenizer, []), "cpu"
        ).losses.tolist()
        == []
    )
