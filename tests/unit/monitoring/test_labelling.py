"""Which logged requests are asked about next, and why."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from bench.truths import Rate, observe
from bench.truths.monitoring.labelled import RATES
from engine.monitoring import labelling
from engine.monitoring.label_candidates import collect_candidates
from engine.monitoring.labelling import (
    ReasonWeights,
    build_label_queue,
    pick_candidates,
    rank_candidates,
)
from engine.monitoring.labelling_text import (
    ABSTAINED,
    ALERTED,
    DISLIKED,
    GROWING_TOPIC,
    LESS_LIKE,
    LESS_SURE,
    NO_TEXT,
    NOTHING_STANDS_OUT,
    REPEATED_REQUEST,
    UNLIKE,
    UNLIKELY_RESPONSE,
    VERSIONS_DIFFER,
    describe_empty_queue,
    describe_label_queue,
    describe_order,
)

COLUMNS = {
    "place": pa.int64(), "request_id": pa.string(), "asked_at": pa.timestamp("us"), "kind": pa.string(),
    "version": pa.string(), "role": pa.string(), "messages": pa.string(), "output": pa.string(),
    "label": pa.string(), "confidence": pa.float64(), "abstained": pa.bool_(), "mean_logprob": pa.float64(),
    "input_distance": pa.float64(), "input_topic": pa.string(), "disliked": pa.bool_(),
    "labelled": pa.bool_(), "in_round": pa.bool_(), "alerted": pa.bool_(),
}  # fmt: skip


def row(number: int, text: str | None, **changed: Any) -> dict[str, Any]:
    flags = ("abstained", "disliked", "labelled", "in_round", "alerted")
    messages = None if text is None else json.dumps([{"role": "user", "content": text}])
    return {
        **dict.fromkeys(COLUMNS),
        **{"place": number, "request_id": f"r{number}", "asked_at": datetime(2026, 11, 1)},
        **{"kind": "labels", "version": "m@1", "role": "live", "messages": messages, "output": "a"},
        **{"label": "a", "confidence": 0.9, **dict.fromkeys(flags, False)},
    } | changed


def logged(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(COLUMNS.items())))


def asked(*rows: dict[str, Any], protocol: Any = "label", **more: Any) -> Any:
    looked = collect_candidates(logged(*rows), protocol)
    return looked, rank_candidates(looked.candidates, **{"weights": ReasonWeights(), **more})


WORDS = [f"{'abcdefghij'[n % 10] * 4} {'klmnopqrst'[n // 10] * 5} question" for n in range(100)]


def test_the_least_sure_the_unlike_and_the_disputed_come_first() -> None:
    rows = [row(n, WORDS[n], confidence=0.9, input_distance=0.2) for n in range(10)]
    rows[2] |= {"confidence": 0.3}
    rows[4] |= {"input_distance": 0.9, "alerted": True}
    rows[6] |= {"disliked": True}
    rows.append(row(10, WORDS[8], version="m@2", role="shadow", request_id="r8", label="b"))
    looked, ranking = asked(*rows)
    order = labelling.order_by_score(ranking)
    assert set(order[:4]) == {2, 4, 6, 8}
    assert [ranking.reasons[place] for place in (2, 4, 6, 8, 0)] == [
        ["30% confidence"],
        [UNLIKE, ALERTED],
        [DISLIKED],
        [VERSIONS_DIFFER],
        [NOTHING_STANDS_OUT],
    ]
    assert ((ranking.score >= 0) & (ranking.score <= 1)).all()
    alone = rank_candidates(looked.candidates, ReasonWeights(1, 0, 0))
    assert labelling.order_by_score(alone)[0] == 2


def test_what_stands_out_nowhere_is_all_alike() -> None:
    _, ranking = asked(*(row(n, WORDS[n], confidence=None) for n in range(5)))
    assert set(ranking.uncertainty) == set(ranking.drift) == {0.5}
    assert ranking.reasons == [[NOTHING_STANDS_OUT]] * 5


def test_log_probabilities_are_ranked_among_their_kind() -> None:
    def answered(n: int, kind: str, mean_logprob: float | None) -> dict[str, Any]:
        return row(n, WORDS[n], kind=kind, label=None, confidence=None, mean_logprob=mean_logprob)

    chats = [answered(n, "chat", -9.0 - n) for n in range(6)]
    texts = [answered(n, "completion", -0.1 * n) for n in range(6, 12)]
    _, ranking = asked(*chats, *texts, protocol="correction")
    assert ranking.uncertainty[:6].tolist() == ranking.uncertainty[6:].tolist()
    assert ranking.reasons[5] == ranking.reasons[11] == [UNLIKELY_RESPONSE]
    untold = [answered(n, "chat", None) for n in range(12, 18)]  # llama.cpp, or an older log
    _, mixed = asked(*chats, *texts, *untold, protocol="correction")
    assert mixed.uncertainty[:12].tolist() == ranking.uncertainty.tolist()
    assert set(mixed.uncertainty[12:].tolist()) == {labelling.NEUTRAL_SCORE}


def test_a_topic_has_grown_where_luck_can_not_explain_it() -> None:
    rows = [row(n, WORDS[n], input_topic="new" if n < 30 else "old") for n in range(100)]
    before = {"old": 190, "new": 10}
    _, ranking = asked(*rows, topics_before=before)
    assert GROWING_TOPIC in ranking.reasons[0]
    assert GROWING_TOPIC not in ranking.reasons[50]
    _, calm = asked(*rows[20:], topics_before=before)
    assert GROWING_TOPIC not in calm.reasons[0]


def test_near_repeats_wait_until_the_others_are_chosen() -> None:
    texts = [f"Where is my card number {n}, it has not come yet?" for n in range(20)]
    looked, ranking = asked(
        *(row(n, text, confidence=0.1) for n, text in enumerate(texts)),
        *(row(20 + n, WORDS[n * 11], confidence=0.8) for n in range(5)),
    )
    picked = pick_candidates(looked.candidates, ranking, 6, random_share=0)
    chosen = [looked.candidates[entry.place].text for entry in picked]
    assert sum(text.startswith("Where is my card") for text in chosen) == 1
    more = pick_candidates(looked.candidates, ranking, 10, random_share=0)
    assert len({entry.place for entry in more}) == 10


@pytest.mark.parametrize(
    ("count", "share", "random"), [(20, 0.3, 6), (20, 0, 0), (20, 1, 20), (200, 0.1, 100)]
)
def test_the_random_ones_are_a_plain_draw(count: int, share: float, random: int) -> None:
    looked, ranking = asked(*(row(n, WORDS[n], confidence=n / 100) for n in range(100)))
    hits = [0] * 100
    for seed in range(20):
        picked = pick_candidates(looked.candidates, ranking, count, random_share=share, seed=seed)
        assert len({entry.place for entry in picked}) == len(picked) == min(count, 100)
        drawn = [entry for entry in picked if entry.random]
        assert {entry.probability for entry in drawn} <= {random / 100}
        assert len(drawn) == random
        for entry in drawn:
            hits[entry.place] += 1
    surely = abs(sum(hits[:50]) - sum(hits[50:])) <= 4 * (20 * random) ** 0.5
    assert surely  # sure and unsure ones as often


def test_a_draw_is_of_what_was_asked_and_said_before_too() -> None:
    """Half of them, the unsure ones, are in a round or have been corrected: they are drawn as often."""
    changed = [{"in_round": True}, {"labelled": True}]
    rows = [row(n, WORDS[n], confidence=n / 100, **(changed[n % 2] if n < 50 else {})) for n in range(100)]
    looked, ranking = asked(*rows)
    assert (len(looked.candidates), len(looked.reached)) == (50, 50)
    again = 0
    for seed in range(40):
        picked = pick_candidates(
            looked.candidates, ranking, 20, random_share=0.5, seed=seed, reached=looked.reached
        )
        drawn = [entry for entry in picked if entry.random]
        assert [entry.probability for entry in drawn] == [0.1] * 10
        assert all(entry.place < 50 for entry in picked if not entry.random)
        again += sum(entry.place >= 50 for entry in drawn)
    assert abs(again - 200) <= 40


@pytest.mark.parametrize("rate", [rate for rate in RATES if "of 40" in rate.name], ids=lambda rate: rate.name)
def test_a_sixth_round_still_judges_all_requests(rate: Rate) -> None:
    assert observe(rate, 25).share >= 0.8


def test_hostile_and_empty_texts_are_asked_about_or_counted() -> None:
    parts = [{"role": "user", "content": [{"text": "a part"}, {"image": 1}, 3]}]
    rows = [
        row(0, ""), row(1, "   "), row(2, None), row(3, "\ud83d".encode("utf-8", "replace").decode()),
        row(4, "<script>alert(1)</script>" * 500), row(5, "x"), row(6, "x"),
        row(7, None, messages=json.dumps(parts)),
        row(8, None, messages="[1, null, {}]"),
    ]  # fmt: skip
    looked, ranking = asked(*rows)
    assert [candidate.text[:8] for candidate in looked.candidates] == ["?", "<script>", "x", "a part"]
    assert looked.left_out == {NO_TEXT: 4, REPEATED_REQUEST: 1}
    assert len(pick_candidates(looked.candidates, ranking, 9, random_share=0.5)) == 4


def test_every_request_that_is_proposed_has_a_reason() -> None:
    rows = [row(n, WORDS[n], confidence=n / 40, input_distance=(n * 7 % 40) / 40) for n in range(40)]
    listed = build_label_queue(logged(*rows), {}, 40).listed
    assert len(listed) == 40
    assert all(line.reasons and all(line.reasons) for line in listed)
    reasons = {reason for line in listed for reason in line.reasons}
    assert {LESS_SURE, LESS_LIKE, NOTHING_STANDS_OUT} <= reasons
    alike = build_label_queue(logged(row(0, "a text"), row(1, "another one")), {}, 2).listed
    assert [line.reasons for line in alike] == [[NOTHING_STANDS_OUT]] * 2


def test_the_list_says_what_is_worth_it_or_why_nothing_is() -> None:
    unsure = row(1, "another", abstained=True, label=None, confidence=None)
    upcoming = build_label_queue(logged(row(0, "a text", disliked=True), unsure), {}, 5)
    assert upcoming.counts == {DISLIKED: 1, ABSTAINED: 1}
    assert describe_label_queue(upcoming) == (
        "2 unique of 2 requests can be labeled: 1 with thumbs down, 1 without a predicted label."
    )
    assert {line.text for line in upcoming.listed} == {"a text", "another"}
    assert describe_order(upcoming).startswith("Ordered by")
    alike = build_label_queue(logged(row(0, "a text"), row(1, "another one")), {}, 2)
    assert describe_order(alike).startswith("Newest first")

    nothing = build_label_queue(logged(row(0, None), row(1, None)), {}, 2)
    assert describe_label_queue(nothing) == "None of 2 requests can be labeled."
    assert "texts are not stored" in describe_empty_queue(nothing)
    assert describe_label_queue(build_label_queue(logged(), {}, 0)) == "No requests in this window."
