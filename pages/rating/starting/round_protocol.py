"""How people rate in a new round: the protocol, what they are told, and who rates how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.rating.starting.round_models import P
from store.catalog.rating_templates import (
    LABEL_INSTRUCTION,
    PROTOCOL_CAPTIONS,
    PROTOCOL_TITLES,
    TEMPLATES,
    RatingTemplate,
)
from store.config.judging.round_config import COMPARING


def draw_protocol(labels: Sequence[str] = (), label_count: int = 0) -> dict[str, Any]:
    """The protocol, and what raters are told, out of a template. labels: the most frequent ones of the data
    set, of so many."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        protocol = st.selectbox(
            "How people rate",
            list(PROTOCOL_TITLES),
            format_func=PROTOCOL_TITLES.__getitem__,
            key=f"{P}protocol",
        )
        chosen = st.selectbox(
            "What they look at",
            list(TEMPLATES),
            format_func=lambda key: TEMPLATES[key].title,
            key=f"{P}template",
        )
    st.caption(PROTOCOL_CAPTIONS[protocol])
    template = TEMPLATES[chosen]
    words = LABEL_INSTRUCTION if protocol == "label" else template.instruction
    instruction = st.text_area(
        "What raters are told", words, key=f"{P}instruction.{protocol == 'label'}.{chosen}", height="content"
    )
    fields: dict[str, Any] = {"protocol": protocol, "instruction": instruction}
    if protocol == "rubric":
        fields["criteria"] = _criteria(chosen)
    elif protocol == "pass_fail":
        fields["reasons"] = _reasons(chosen, template)
    elif protocol == "label":
        fields["labels"] = _labels(labels, label_count)
    elif protocol == "pairwise":
        with st.container(horizontal=True):
            fields["ties"] = st.toggle("A tie may be said", True, key=f"{P}ties")
            bad = st.toggle("Both bad may be said", True, key=f"{P}bad", help="Which is no tie")
            fields["both_bad"] = bad
    return fields


def _reasons(chosen: str, template: RatingTemplate) -> list[str]:
    given = st.text_input(
        "Reasons for a fail, with commas between them",
        ", ".join(template.reasons),
        key=f"{P}reasons.{chosen}",
    )
    return [reason.strip() for reason in given.split(",") if reason.strip()]


def _labels(labels: Sequence[str], label_count: int) -> list[str]:
    """What a text may be given, a line each; begun with those of the data set."""
    given = st.text_area("Labels, a line each", "\n".join(labels), key=f"{P}labels.{hash(tuple(labels))}")
    if label_count > len(labels):
        st.caption(f"The {len(labels)} most frequent of {label_count:,} labels. Add the others.")
    return list(dict.fromkeys(line.strip() for line in given.splitlines() if line.strip()))


def _criteria(chosen: str) -> list[dict[str, Any]]:
    """Named criteria; each one's five points in words, worst to best."""
    names = st.multiselect(
        "Criteria",
        list(TEMPLATES),
        default=[chosen],
        format_func=lambda key: TEMPLATES[key].title,
        key=f"{P}criteria.{chosen}",
    )
    criteria = []
    for name in names:
        criterion = TEMPLATES[name].criterion
        with st.expander(f"{criterion['name']}: {criterion['question']}"):
            question = st.text_input("Question", criterion["question"], key=f"{P}question.{name}")
            anchors = [
                st.text_input(f"{point} of 5", words, key=f"{P}anchor.{name}.{point}")
                for point, words in enumerate(criterion["anchors"], 1)
            ]
        criteria.append({"name": criterion["name"], "question": question, "anchors": anchors})
    return criteria


def draw_people(protocol: str) -> dict[str, Any]:
    """Who rates how much, and whether some comes again."""
    fields: dict[str, Any] = {}
    with st.expander("How many people, and how often", icon=":material/group:"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            overlap = st.number_input(
                "People who rate the same",
                1,
                20,
                2,
                key=f"{P}overlap",
                help="Two or more tell how far people agree",
            )
            most = st.number_input(
                "Ratings of one person at most", 1, None, None, key=f"{P}most", placeholder="no limit"
            )
        fields |= {"overlap": int(overlap), "per_rater": None if most is None else int(most)}
        if protocol in COMPARING:
            swapped = st.toggle(
                "One in ten comes again with its sides swapped",
                True,
                key=f"{P}repeat",
                help="Tells how consistent a person is",
            )
            fields["repeat_share"] = 0.1 if swapped else 0.0
        fields["adjudicate"] = st.toggle("A disagreement goes to one more person", key=f"{P}adjudicate")
        named = st.toggle("Leave out prompts to which an answer names its model", key=f"{P}named")
        fields["named"] = "leave_out" if named else "keep"
    return fields
