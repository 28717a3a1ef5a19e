"""Which metric of answers a run may be told to watch while it trains."""

from __future__ import annotations

import pytest

from store.core import metrics_config
from store.core.errors import ConfigError
from store.core.metric_table import METRICS
from store.training.train_config import TrainConfig


def test_every_name_that_is_offered_is_measured_row_by_row_and_higher_is_better() -> None:
    for name in metrics_config.list_live_metrics():
        (choice,) = metrics_config.build_live_metrics(name).metrics
        assert choice.metric == name
        assert METRICS[name].better == "higher"
        assert TrainConfig(dataset="x", live_metric=name).live_metric == name
    assert {"exact_match", "token_f1"} <= set(metrics_config.list_live_metrics())
    assert not {"bleu", "perplexity", "ece", "regex", "judge"} & set(metrics_config.list_live_metrics())


def test_a_file_of_the_users_own() -> None:
    (choice,) = metrics_config.build_live_metrics("own/Polite").metrics
    assert (choice.metric, choice.file, choice.key) == ("own", "Polite", "eval/polite")


@pytest.mark.parametrize(
    ("value", "words"),
    [("token_f2", "is it token_f1"), ("bleu", "there are exact_match"), ("own/../x", "name of a file")],
)
def test_what_cannot_be_measured_is_refused_with_what_can(value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        TrainConfig.parse({"dataset": "x", "live_metric": value})
    assert caught.value.field == "live_metric"
