"""What is rated at `tests.e2e.rating_store`: rounds of each protocol, and texts that nobody vouches for."""

from __future__ import annotations

import functools
from typing import Any

HOSTILE = """<script>window.ran = true</script><img src="/leak.png" onerror="window.ran = true">

![a picture](http://127.0.0.1:9/leak.png) and [a link](javascript:window.ran=true) and <http://127.0.0.1:9/leak>

<iframe src="/leak"></iframe><style>* {display: none}</style>

- **bold** and *light* and `code <b>` and ~~gone~~

| head | <b>cell</b> |
|---|---|
| 1 | <svg onload="window.ran=true"> |

> مرحبا بالعالم

مرحبا **بالعالم**

```html
<script>window.ran = true</script>
```"""
ORCHARD = """## Pruning an apple tree

Prune in **late winter**, while the tree sleeps and before its buds swell:

1. Take out what is dead, broken or ill.
2. Take out shoots that cross or rub.
3. Shorten last year's growth by a third, just above a bud that looks outwards.

> A young tree is formed, an old one is thinned.

| Tree | Cut back | When |
|---|---|---|
| Young | one third | February |
| Old | little | March |

Keep the tool clean: `70% alcohol` between two trees is enough. See [the guide](https://example.org/apple)."""
SHORT = """Prune an apple tree in **late winter**, before the buds swell. Take out dead, broken and \
crossing wood first, then shorten last year's growth by about one third. Never take more than a quarter of \
the tree in one year: it answers with a thicket of upright shoots.

```python
def share_to_cut(age_years: int) -> float:
    return 1 / 3 if age_years < 5 else 1 / 10
```

For an old tree be patient, and spread the work over *three winters*."""
THIRD = "Cut it in winter. Remove dead wood. Water it well afterwards and it will be fine."
CRITERIA = [
    {
        "name": "Helpfulness",
        "question": "Does the answer help the person who asked?",
        "anchors": [
            "Of no use",
            "Touches on it",
            "Helps in part",
            "Helps, with a gap",
            "Wholly what was needed",
        ],
    },
    {
        "name": "Faithfulness",
        "question": "Is all that it says true of the source?",
        "anchors": ["Invented", "Mostly wrong", "Mixed", "A slip", "All of it is supported"],
    },
    {
        "name": "Tone",
        "question": "Does it speak to the reader as they would wish?",
        "anchors": ["Rude or empty", "Stiff", "Neutral", "Friendly", "Just right"],
    },
]
ASTRONAUTS = "\U0001f469\u200d\U0001f680 Ada flew\r\nto *Paris* \U0001f600 at noon.\n" + "More of it. " * 80
ASKED = "How and when do I prune an apple tree that is about four years old? I have only hand tools."


def round_for_rater(round_id: str) -> dict[str, Any]:
    protocol = round_id.split("-")[0]
    return {
        "round_id": round_id,
        "title": "Which answer helps more?",
        "protocol": protocol,
        "instruction": "Choose the answer that you would **rather get**. Length alone is no merit; a wrong "
        "fact is worse than a gap.",
        "criteria": CRITERIA if protocol == "rubric" else [],
        "reasons": ["Wrong fact", "Off the point", "Too long", "Unsafe"] if protocol == "pass_fail" else [],
        "ties": True,
        "both_bad": True,
        "labels": _labels(round_id) if protocol in ("label", "spans") else [],
        "several_labels": "several" in round_id,
        "subject": "prompt" if "prompts" in round_id else "answer",
        "overlapping": "overlapping" in round_id,
        "state": "open",
    }


def _labels(round_id: str) -> list[str]:
    """Few, or of a round whose name begins with many as many as have no key each."""
    if round_id.startswith("spans"):
        return ["person", "place", "<b>time</b>"]
    if not round_id.split("-")[2].startswith("many"):
        return ["card_arrival", "<b>loan</b>", "lost or stolen card"]
    kinds = ("arrival", "declined", "fee", "limit", "swallowed")
    things = ("card", "cash", "transfer", "top_up", "refund", "direct_debit")
    return [f"{subject}_{kind}" for subject in things for kind in kinds]


@functools.cache
def tasks(round_id: str) -> list[dict[str, Any]]:
    """As many as the round's id says."""
    protocol, count, name = round_id.split("-")
    return [_task(protocol, place, name) for place in range(int(count))]


def _task(protocol: str, place: int, name: str) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"{ASKED} (case {place})" if place else ASKED}]
    if name == "turns":
        prompt = [
            {"role": "system", "content": "You help gardeners. Be brief."},
            {"role": "user", "content": "Can I plant an apple tree in clay? " + "It is heavy and wet. " * 30},
            {"role": "assistant", "content": "Yes, on a small mound, with coarse compost dug in."},
            *prompt,
        ]
    texts = {
        "hostile": [HOSTILE, ""],
        "long": [_long(place, 1), _long(place, 7)],
        "astronauts": [ASTRONAUTS],
        "overlapping": [ASTRONAUTS],
    }.get(name, [SHORT, ORCHARD, THIRD] if place % 2 else [ORCHARD, SHORT, THIRD])
    count = {"pairwise": 2, "rank": 3, "label": 0}.get(protocol, 1)
    return {
        "task_id": f"{protocol}-{name}-task{place:03d}",
        "prompt": prompt,
        "answers": texts[:count],
        "reference": "Late winter; dead wood first; a third of last year's growth."
        if protocol == "pass_fail"
        else None,
    }


def _long(place: int, step: int) -> str:
    """10,000 words in 200 paragraphs; two of them share most words."""
    words = ["orchard", "winter", "branch", "of", "the", "and", "bud", "saw", "growth", "third"]
    return "\n\n".join(
        " ".join(
            f"{words[(word * 7 + line) % 10]}{'x' * step if (word + line) % 25 == place else ''}"
            for word in range(50)
        )
        for line in range(200)
    )
