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
from pages.shared.model_form import ModelForm
from pages.shared.session import cached, escape_markdown, get_client
from store.core.formatting import plural
from store.evaluation.config import EvaluateConfig
from store.rating import workload
from store.rating.config import (
    MARKING,
    MAX_MODELS,
    MAX_POINTS,
    MIN_POINTS,
    REPEATED,
    AssignedRater,
    Criterion,
    RoundConfig,
)
from store.rating.schemas import RaterAccount
from store.rating.templates import INSTRUCTIONS, PROTOCOL_CAPTIONS, PROTOCOL_TITLES, TEMPLATES

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


@cached(LIVE, max_entries=4)
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
        protocol: str = form.draw_field("protocol", choices=PROTOCOL_TITLES)
        chosen = st.selectbox(
            "Question",
            list(TEMPLATES),
            format_func=lambda key: TEMPLATES[key].title,
            key=f"{P}template",
        )
    st.caption(PROTOCOL_CAPTIONS[protocol])
    template = TEMPLATES[chosen]
    form.draw_field(
        "instruction",
        label="The question" if protocol == "free_text" else "",
        key=f"{P}instruction.{protocol if protocol in INSTRUCTIONS else ''}.{chosen}",
        present=INSTRUCTIONS.get(protocol, template.instruction),
    )
    if protocol == "rubric":
        form.put(criteria=_draw_criteria(chosen))
        form.mark("criteria")
        form.draw("overall")
    elif protocol == "pass_fail":
        form.draw_field("reasons", key=f"{P}reasons.{chosen}", present=template.reasons)
    elif protocol == "label":
        form.draw_field("labels", key=f"{P}labels.{hash(tuple(labels))}", present=labels)
        if label_count > len(labels):
            st.caption(f"The {len(labels)} most frequent of {label_count:,} labels. Add the others.")
        form.draw("several_labels")
    elif protocol in MARKING:
        form.draw("subject")
        if protocol == "spans":
            form.draw_field("labels", key=f"{P}span-labels")
            form.draw("overlapping")
    elif protocol == "pairwise":
        with st.container(horizontal=True):
            form.draw("ties")
            form.draw("both_bad")
    return protocol


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
        form = ModelForm(Criterion, f"{P}{name}.", criterion)
        with st.expander(f"{criterion['name']}: {criterion['question']}"):
            form.draw("question")
            form.put(name=criterion["name"], anchors=_draw_anchors(name, criterion["anchors"]))
        criteria.append(form.values)
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
        repeated = ["repeat_share"] if protocol in REPEATED else []
        form.draw("calibration_share", *repeated, columns=2)
        form.draw("adjudicate", "named")
        people = {each.person_id: each.name for each in list_raters()}
        if people:
            form.put(raters=draw_rater_fields(people, {}, f"{P}raters"))
