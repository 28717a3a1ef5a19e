"""Settings of a new round as form fields: models, protocol, instructions, and workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from pages.evaluation import evaluation_queries
from pages.evaluation.form import MODELS
from pages.shared import cached_queries
from pages.shared.cached_queries import LIVE
from pages.shared.features import list_model_names
from pages.shared.model_form import ModelForm, split_texts
from pages.shared.session import cached, escape_markdown, get_client
from store.core.formatting import plural
from store.evaluation.config import EvaluateConfig
from store.rating import workload
from store.rating.config import (
    COMPARING,
    MARKING,
    MAX_MODELS,
    MAX_POINTS,
    MIN_POINTS,
    AssignedRater,
    RoundConfig,
)
from store.rating.schemas import RaterAccount
from store.rating.templates import INSTRUCTIONS, PROTOCOL_CAPTIONS, PROTOCOL_TITLES, TEMPLATES, RatingTemplate

MAX_CHOICES = 100  # number of evaluations and runs offered
P = "round-new-"
RoundForm = ModelForm[RoundConfig]


class ModelOption(NamedTuple):
    """A selectable model: its label, and the fields of its `RoundModel`."""

    label: str
    model: dict[str, str]


ModelOptions = Mapping[str, ModelOption]


def list_answered_options(dataset_id: str) -> dict[str, ModelOption]:
    """List evaluations with answers to rows of the data set."""
    lines = evaluation_queries.list_evaluations("", dataset_id, "", MAX_CHOICES, 0)[1]
    return {
        f"e:{line.evaluation_id}": ModelOption(
            f"{line.name} ({plural(line.n, 'answer')} there)", {"evaluation": line.evaluation_id}
        )
        for line in lines
        if EvaluateConfig.of_past(line.config).generates
    }


def build_named_options(answers: Mapping[str, int]) -> dict[str, ModelOption]:
    """Build options of the names with answers in a file."""
    return {
        f"a:{name}": ModelOption(f"{name} ({plural(count, 'answer')} in the file)", {"answers": name})
        for name, count in answers.items()
    }


def list_other_options() -> dict[str, ModelOption]:
    """List runs and models, which first generate answers to the prompts."""
    options: dict[str, ModelOption] = {}
    for run in cached_queries.list_run_choices("", ("finished",), MAX_CHOICES):
        if run.task == "classification":
            continue
        for checkpoint in ("tuned", "base"):
            model = {"run": run.run_id, "checkpoint": checkpoint}
            label = f"{run.name}: {MODELS[checkpoint].lower()}"
            options[f"r:{checkpoint}:{run.run_id}"] = ModelOption(label, model)
    for name in list_model_names():
        options[f"m:{name}"] = ModelOption(name, {"model": name})
    for named in cached_queries.list_models():
        options[f"m:{named.name}"] = ModelOption(f"{named.name} (model)", {"model": named.name})
    return options


def draw_models(options: ModelOptions, key: str) -> list[dict[str, str]]:
    """Draw the choice of models; tuned and base model of a linked run are preselected.

    `key`: identifies the prompts.
    """
    asked = st.query_params.get("run", "")
    default = [option for option in (f"r:base:{asked}", f"r:tuned:{asked}") if option in options]
    chosen = st.multiselect(
        "Models",
        list(options),
        default=default,
        format_func=lambda option: options[option].label,
        max_selections=MAX_MODELS,
        key=f"{P}models.{key}",
        placeholder="Choose two or more",
        help="Existing answers are used unchanged. A run or a model first answers the same prompts.",
    )
    return [options[option].model for option in chosen]


@cached(LIVE, most=4)
def list_raters() -> list[RaterAccount]:
    """List everyone who may rate."""
    return workload.people_who_rate(get_client())


def draw_rater_fields(
    people: Mapping[str, str], quotas: Mapping[str, int | None], key: str
) -> list[AssignedRater]:
    """Draw the choice of raters with quotas, and return them as in a config.

    people: id -> name; quotas: of the raters assigned so far.
    """
    chosen = st.multiselect(
        "Raters",
        list(people),
        [each for each in quotas if each in people],
        format_func=people.__getitem__,
        placeholder="everyone who can rate",
        key=f"{key}.people",
        help="Only they see the round in their list",
    )
    named: list[AssignedRater] = []
    for person_id in chosen:
        quota = st.number_input(
            f"Ratings of {escape_markdown(people[person_id])} at most",
            1,
            100_000,
            quotas.get(person_id),
            placeholder="no limit",
            key=f"{key}.quota.{person_id}",
        )
        named.append(AssignedRater(person=person_id, quota=quota))
    return named


def draw_protocol(form: RoundForm, labels: Sequence[str] = (), label_count: int = 0) -> str:
    """Draw the protocol and the instructions for raters, prefilled from a template.

    labels: the most frequent ones of the data set, out of `label_count`.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        protocol = st.selectbox(
            "Protocol",
            list(PROTOCOL_TITLES),
            format_func=PROTOCOL_TITLES.__getitem__,
            key=f"{P}protocol",
        )
        chosen = st.selectbox(
            "Question",
            list(TEMPLATES),
            format_func=lambda key: TEMPLATES[key].title,
            key=f"{P}template",
        )
    st.caption(PROTOCOL_CAPTIONS[protocol])
    template = TEMPLATES[chosen]
    instruction = st.text_area(
        "The question" if protocol == "free_text" else "Instructions for raters",
        INSTRUCTIONS.get(protocol, template.instruction),
        key=f"{P}instruction.{protocol if protocol in INSTRUCTIONS else ''}.{chosen}",
        height="content",
    )
    form.put(protocol=protocol, instruction=instruction)
    if protocol == "rubric":
        form.put(criteria=_draw_criteria(chosen))
        form.draw("overall")
    elif protocol == "pass_fail":
        form.put(reasons=_draw_reasons(chosen, template))
    elif protocol == "label":
        form.put(labels=_draw_labels(labels, label_count))
        form.draw("several_labels")
    elif protocol in MARKING:
        _draw_marking(form, protocol)
    elif protocol == "pairwise":
        with st.container(horizontal=True):
            form.draw("ties")
            form.draw("both_bad")
    return protocol


def _draw_reasons(chosen: str, template: RatingTemplate) -> list[str]:
    given = st.text_input(
        "Reasons for a fail, separated by commas",
        ", ".join(template.reasons),
        key=f"{P}reasons.{chosen}",
    )
    return split_texts(given, ",")


def _draw_labels(labels: Sequence[str], label_count: int) -> list[str]:
    """Draw the labels, one per line, prefilled with those of the data set."""
    given = st.text_area("Labels, one per line", "\n".join(labels), key=f"{P}labels.{hash(tuple(labels))}")
    if label_count > len(labels):
        st.caption(f"The {len(labels)} most frequent of {label_count:,} labels. Add the others.")
    return split_texts(given, "\n")


def _draw_marking(form: RoundForm, protocol: str) -> None:
    """Draw the subject of spans and free text, and the labels of spans."""
    of_answer = st.segmented_control(
        "About",
        ("The answer", "The prompt"),
        default="The answer",
        required=True,
        key=f"{P}subject",
        help="About prompts choose one model; its answers are not shown",
    )
    form.put(subject="answer" if of_answer == "The answer" else "prompt")
    if protocol == "spans":
        form.put(labels=split_texts(st.text_area("Labels, one per line", "", key=f"{P}span-labels"), "\n"))
        form.draw("overlapping")


def _draw_criteria(chosen: str) -> list[Mapping[str, object]]:
    """Draw the criteria with descriptions of their points, worst to best."""
    names = st.multiselect(
        "Criteria",
        list(TEMPLATES),
        default=[chosen],
        format_func=lambda key: TEMPLATES[key].title,
        key=f"{P}criteria.{chosen}",
    )
    criteria: list[Mapping[str, object]] = []
    for name in names:
        criterion = TEMPLATES[name].criterion
        with st.expander(f"{criterion['name']}: {criterion['question']}"):
            question = st.text_input("Question", criterion["question"], key=f"{P}question.{name}")
            anchors = _draw_anchors(name, criterion["anchors"])
        criteria.append({"name": criterion["name"], "question": question, "anchors": anchors})
    return criteria


def _draw_anchors(name: str, words: Sequence[str]) -> list[str]:
    """Draw the meaning of each point; for another number of points only both ends are prefilled."""
    count = int(
        st.number_input("Points", MIN_POINTS, MAX_POINTS, len(words), key=f"{P}points.{name}", step=1)
    )
    if count != len(words):
        words = [words[0], *[""] * (count - 2), words[-1]]
    return [
        st.text_input(
            f"{point} of {count}",
            anchor,
            key=f"{P}anchor.{name}.{count}.{point}",
            placeholder="optional",
        )
        for point, anchor in enumerate(words, 1)
    ]


def draw_people(form: RoundForm, protocol: str) -> None:
    """Draw the number of ratings by person, repeated items, and the raters."""
    with st.expander("Raters and overlap", icon=":material/group:"):
        form.draw("overlap", "per_rater", columns=2)
        if protocol in COMPARING:
            swapped = st.toggle(
                "One in ten is shown again with sides swapped",
                True,
                key=f"{P}repeat",
                help="Measures how consistent a rater is",
            )
            form.put(repeat_share=0.1 if swapped else 0.0)
        everybodys = st.toggle(
            "All raters start with the same prompts",
            True,
            key=f"{P}calibration",
            help="One in ten, at least five: they measure agreement from the first hour",
        )
        form.put(calibration_share=0.1 if everybodys else 0.0)
        form.draw("adjudicate")
        named = st.toggle("Exclude prompts where an answer names its model", key=f"{P}named")
        form.put(named="leave_out" if named else "keep")
        people = {each.person_id: each.name for each in list_raters()}
        if people:
            form.put(raters=draw_rater_fields(people, {}, f"{P}raters"))
