"""Results of a closed round: which model is better, whether length explains it, and agreement between raters;
also for labels, spans and written texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from engine.evaluation.statistics.intervals import Interval
from engine.rating import raters_text, results_text, round_text
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.labels import LabelSetStatistics, LabelStatistics
from engine.rating.analysis.model_comparison import MAX_PAIRS, ModelComparison, find_best_two, rank_systems
from engine.rating.analysis.rates import (
    CriterionScores,
    Passes,
    compute_criterion_means,
    compute_pass_rates,
    measure_position_effect,
)
from engine.rating.analysis.round_ratings import (
    LENGTH,
    OVERALL,
    assign_rater_names,
    get_task_answer,
    list_system_names,
)
from engine.rating.raters_text import describe_flagged_raters
from engine.rating.round_text import CHOSEN_AS_HARD, describe_wins
from pages.rating import round_queries
from pages.rating.downloads import draw_report, draw_table
from pages.rating.ranking import draw_judges, draw_ranking
from pages.rating.round_queries import (
    build_ratings,
    compute_agreement,
    compute_comparison,
    compute_label_figures,
    compute_label_set_figures,
    compute_rater_checks,
    compute_span_figures,
    list_informative_items,
)
from pages.shared import charts
from pages.shared.palette import get_run_color
from pages.shared.session import escape_markdown
from pages.shared.text_display import shorten, show_text
from store.core.formatting import plural
from store.core.rating_schemas import COUNTING, RoundSummary

MAX_DISPUTED = 5
MAX_LABELS = 30  # in the table of counts
NONE_FITS = "(none of the labels fits)"


def draw_labels(round: RoundSummary) -> None:
    """Draw the results of a round with one label per text."""
    figures = compute_label_figures(round)
    if not figures.ratings:
        st.markdown("No ratings to count: every item was skipped, or its raters are excluded.")
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(escape_markdown(round_text.describe_settled_texts(figures)), anchor=False)
        lines = [round_text.describe_version_accuracy(each) for each in figures.accuracy]
        st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))
    _draw_accuracy(figures)
    st.subheader("Inter-rater agreement", anchor=False)
    st.markdown(
        "\n".join(f"- {escape_markdown(line)}" for line in round_text.describe_people_agreement(figures))
    )
    _draw_counts(figures)
    _draw_disputed_labels(round, figures)


def _draw_accuracy(figures: LabelStatistics) -> None:
    rows = [
        _build_interval_row(each.version, each.random, place)
        for place, each in enumerate(figures.accuracy)
        if not math.isnan(each.random.value)
    ]
    if len(rows) < 2:  # for one version the sentence suffices
        return
    st.plotly_chart(
        charts.plot_intervals(rows, "Served label matches raters (%)", height=90 + 34 * len(rows)),
        key="round-labels",
        config={"displayModeBar": False},
        alt="Share of randomly sampled texts where each version's label matches the raters' label, with "
        "95% intervals",
    )


def _draw_counts(figures: LabelStatistics) -> None:
    st.subheader("Label counts", anchor=False)
    most_frequent = figures.counts[:MAX_LABELS]
    st.dataframe(
        [{"Label": label or NONE_FITS, "Texts": count} for label, count in most_frequent],
        hide_index=True,
        width="content",
        alt="Texts per label",
    )
    if len(figures.counts) > len(most_frequent):
        st.caption(f"The {len(most_frequent)} most frequent of {plural(len(figures.counts), 'label')}.")


def _draw_disputed_labels(round: RoundSummary, figures: LabelStatistics) -> None:
    if not figures.disputed:
        return
    items = round_queries.read_items(round.round_id, tuple(figures.disputed[:MAX_DISPUTED]))
    with st.expander(f"{plural(len(figures.disputed), 'text')} with disagreement"):
        for item_id in figures.disputed[:MAX_DISPUTED]:
            prompt = items[item_id].prompt
            show_text(prompt[-1]["content"] if prompt else "", 600)
        if len(figures.disputed) > MAX_DISPUTED:
            st.caption(f"{MAX_DISPUTED} of {len(figures.disputed):,}; see all of them on the Answers tab.")


PAGE = 20  # written answers per page


def draw_label_sets(round: RoundSummary) -> None:
    """Draw the results of a round with several labels per text."""
    figures = compute_label_set_figures(round)
    if not figures.ratings:
        st.markdown(round_text.NOTHING_RATED)
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(escape_markdown(round_text.describe_settled_label_sets(figures)), anchor=False)
    st.subheader("Inter-rater agreement", anchor=False)
    lines = round_text.describe_label_set_agreement(figures)
    lines += [round_text.describe_label_agreement(each) for each in figures.labels if each.alpha]
    st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))
    st.subheader("Label counts", anchor=False)
    st.dataframe(
        [{"Label": each.label, "Texts": each.texts} for each in figures.labels],
        hide_index=True,
        width="content",
        alt="Texts per label",
    )
    _draw_disputed_texts(round, figures)


def _draw_disputed_texts(round: RoundSummary, figures: LabelSetStatistics) -> None:
    if not figures.disputed:
        return
    items = {item.item_id: item for item in round_queries.list_items(round.round_id)}
    with st.expander(f"{plural(len(figures.disputed), 'text')} with disagreement"):
        for item_id in figures.disputed[:MAX_DISPUTED]:
            prompt = items[item_id].prompt
            st.text(shorten(prompt[-1]["content"] if prompt else ""))
        if len(figures.disputed) > MAX_DISPUTED:
            st.caption(f"{MAX_DISPUTED} of {len(figures.disputed):,}; see all of them on the Answers tab.")


def draw_spans(round: RoundSummary) -> None:
    """Draw the results of a round in which spans are marked."""
    figures = compute_span_figures(round)
    if not figures.ratings:
        st.markdown(round_text.NOTHING_RATED)
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(escape_markdown(round_text.describe_marked_texts(figures)), anchor=False)
    st.dataframe(
        [{"Label": each.label, "Spans": each.spans, "Texts": each.texts} for each in figures.labels],
        hide_index=True,
        width="content",
        alt="Spans and texts per label",
    )
    st.subheader("Inter-rater agreement", anchor=False)
    st.markdown(
        "\n".join(f"- {escape_markdown(line)}" for line in round_text.describe_span_agreement(figures))
    )


def draw_written(round: RoundSummary) -> None:
    """Draw the searchable texts written by raters."""
    left_out = {rater.person_id for rater in round_queries.list_excluded_raters(round.round_id)}
    written = round_text.list_written_tasks(round_queries.list_tasks(round.round_id), left_out)
    if not written:
        st.markdown(round_text.NOTHING_RATED)
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(escape_markdown(round_text.describe_written(written)), anchor=False)
        st.caption(escape_markdown(str(round.config.get("instruction", ""))))
    search = st.text_input(
        "Search", key="written-search", placeholder="Search answers", label_visibility="collapsed"
    )
    words = (search or "").casefold().strip()
    matches = [task for task in written if words in get_task_answer(task)["written"].casefold()]
    if not matches:
        st.caption("No matching answers. Try another search.")
        return
    pages = -(-len(matches) // PAGE)
    number = min(int(st.session_state.get("written-page") or 1), pages)
    names, raters = list_system_names(round), assign_rater_names(written)
    items = {item.item_id: item for item in round_queries.list_items(round.round_id)}
    for task in matches[PAGE * (number - 1) : PAGE * number]:
        prompt = items[task.item_id].prompt
        about = shorten(prompt[-1]["content"] if prompt else "", 200)
        with st.container(border=True, gap="xsmall"):
            st.text(get_task_answer(task)["written"])
            of = "" if round.config.get("subject") == "prompt" else f" on {names[task.systems[0]]}"
            st.caption(escape_markdown(f"{raters[task.person_id]}{of}, of: {about}"))
    if pages > 1:
        st.pagination(pages, key="written-page")
    st.caption(f"{len(matches):,} of {plural(len(written), 'answer')}; all of them are in the table below.")


UNCOUNTED_PROTOCOLS = ("label", "correction", "spans", "free_text")  # not covered by `build_ratings`


def draw_results(round: RoundSummary) -> None:
    """Draw the tab; a round without ratings says so."""
    ratings = build_ratings(round)
    if not round.rated:
        st.markdown("This round has no ratings. Reopen it, or delete it.")
        return
    left_out = round_queries.list_excluded_raters(round.round_id)
    if left_out:
        st.caption(f":material/person_off: {plural(len(left_out), 'rater')} excluded; see the People tab.")
    _draw_flagged(round, {rater.person_id for rater in left_out})
    if (telling := list_informative_items(round)) and round.protocol not in UNCOUNTED_PROTOCOLS:
        st.caption(
            ":material/info: Results use only requests sampled at random; "
            f"{plural(len(telling), 'other')} were {CHOSEN_AS_HARD}."
        )
    compared = compute_comparison(round)
    if ratings.comparisons is not None and compared is not None:
        _draw_comparisons(ratings.comparisons, compared)
        _draw_agreement(round)
        _draw_disputed_answers(round)
        draw_judges(round, ratings.comparisons)
    elif ratings.scores is not None and len(ratings.scores):
        for scores in results_text.list_score_tables(ratings):
            _draw_means(ratings.systems, scores)
        lines = results_text.describe_differences(ratings)
        st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))
        _draw_agreement(round)
    elif ratings.passes is not None and len(ratings.passes):
        _draw_passes(ratings.systems, ratings.passes)
        _draw_agreement(round)
    elif round.protocol == "correction":
        _draw_corrections(round)
    elif round.protocol == "label":
        draw_label_sets(round) if round.config.get("several_labels") else draw_labels(round)
    elif round.protocol == "spans":
        draw_spans(round)
    elif round.protocol == "free_text":
        draw_written(round)
    else:
        st.markdown("No ratings to count: every item was skipped, or its raters are excluded.")
    if ratings.skipped:
        st.caption(f"{plural(ratings.skipped, 'task')} skipped.")
    with st.container(horizontal=True):
        draw_report(round)
        draw_table(round)


def _draw_flagged(round: RoundSummary, left_out: set[str]) -> None:
    """Draw a warning with the number of ratings by flagged raters who are not excluded."""
    flagged = [
        each
        for each in compute_rater_checks(round)
        if each.flags and each.ratings and each.person_id not in left_out
    ]
    if flagged:
        st.warning(escape_markdown(describe_flagged_raters(flagged)), icon=":material/flag:")


def _draw_comparisons(comparisons: Comparisons, compared: ModelComparison) -> None:
    headline, *more = results_text.describe_strengths(compared.plain)
    with st.container(border=True, key="round-verdict"):
        st.subheader(escape_markdown(headline), anchor=False)
        sentences = [*more, *_describe_side_effects(comparisons, compared)]
        st.markdown("\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences))
    plain_order = [compared.plain.systems[place] for place in compared.plain.order]
    if len(plain_order) > 2:
        draw_ranking(rank_systems(compared.plain), compared.plain)
    else:
        st.plotly_chart(
            _plot_strength(compared),
            key="round-strengths",
            config={"displayModeBar": False},
            alt=f"Share of decided ratings that {plain_order[0]} would win, with its 95% interval",
        )
    with st.expander("Wins, ties and losses", on_change="rerun", key="round-wins") as box:
        if box.open:
            _draw_wins(comparisons, plain_order)


def _draw_wins(comparisons: Comparisons, names: Sequence[str]) -> None:
    """Describe wins, ties and losses in sentences; for many models, of the strongest ones."""
    st.markdown(
        "\n".join(f"- {escape_markdown(line)}" for line in describe_wins(comparisons, names[:MAX_PAIRS]))
    )
    if len(names) > MAX_PAIRS:
        st.caption(f"The {MAX_PAIRS} strongest of {len(names)} models.")


def _describe_side_effects(comparisons: Comparisons, compared: ModelComparison) -> list[str]:
    """Describe effects of length, formatting and position, and how many more ratings are needed."""
    best = find_best_two(compared.plain)
    if best is None:
        return []
    first, second = best.first, best.second
    lines = []
    if compared.equal is not None:
        pairs = (best, compared.equal.difference(first, second))
        lines.append(results_text.describe_adjusted_difference(*pairs, " and ".join(comparisons.covariates)))
        for coefficient in compared.equal.coefficients:
            of_length = coefficient.name == LENGTH
            say = (
                results_text.describe_length_effect if of_length else results_text.describe_formatting_effect
            )
            lines.append(say(coefficient))
    if comparisons.differences is not None:  # ranks have no position effect
        lines.append(results_text.describe_position_effect(measure_position_effect(comparisons)))
    if compared.more is not None:
        lines.append(results_text.describe_ratings_needed(first, second, compared.more))
    lines += [
        results_text.describe_peek(peek)
        for peek in compared.peeks
        if {peek.first, peek.second} == {first, second}
    ]
    return lines


def _plot_strength(compared: ModelComparison) -> object:
    """Plot the share of decided ratings that the better of two models would win."""
    best = find_best_two(compared.plain)
    if best is None:
        return charts.plot_intervals([], "")
    place = compared.plain.systems.index(best.second)
    rows = [_build_interval_row(f"against {best.second}", best.share, place)]
    return charts.plot_intervals(rows, f"Decided ratings that {best.first} would win (%)", level=50)


def _build_interval_row(name: str, at: Interval, place: int) -> charts.IntervalRow:
    low, high = (None if end is None else 100 * end for end in (at.low, at.high))
    return charts.IntervalRow(name, 100 * at.value, low, high, get_run_color(place))


def _draw_agreement(round: RoundSummary) -> None:
    st.subheader("Inter-rater agreement", anchor=False)
    agreement = compute_agreement(round)
    lines = []
    for criterion, alpha in agreement.alphas.items():
        line = raters_text.describe_alpha(alpha)
        lines.append(f"{criterion}: {line}" if criterion else line)
    lines += raters_text.describe_kappas(agreement.kappas)
    st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))


def _draw_disputed_answers(round: RoundSummary) -> None:
    """Draw the prompts on which raters disagree."""
    agreement = compute_agreement(round)
    if not agreement.parted:
        return
    item_ids = tuple(int(dispute.item) for dispute in agreement.parted)
    title = f"{plural(agreement.parted_on, 'prompt')} with disagreement"
    with st.expander(title, on_change="rerun", key="round-parted") as box:
        if not box.open:
            return
        items = round_queries.read_items(round.round_id, item_ids)
        for dispute in agreement.parted:
            item = items[int(dispute.item)]
            st.markdown(f"**{escape_markdown(raters_text.describe_disputed_item(dispute))}**")
            show_text(item.prompt[-1]["content"] if item.prompt else "", 600)
        if agreement.parted_on > len(item_ids):
            st.caption(f"{len(item_ids)} of {agreement.parted_on:,}; see all of them on the Answers tab.")


def _draw_means(systems: Sequence[str], scores: CriterionScores) -> None:
    means = compute_criterion_means(scores)
    for criterion, (worst, best) in zip(scores.criteria, scores.scales, strict=True):
        title = f"{criterion}: mean of {worst:g} to {best:g}" if criterion != OVERALL else criterion
        present = [name for name in systems if (name, criterion) in means]
        rows = [
            charts.IntervalRow(name, at.value, at.low, at.high, get_run_color(place))
            for place, name in enumerate(present)
            for at in [means[name, criterion]]
        ]
        st.plotly_chart(
            charts.plot_intervals(rows, title, level=(worst + best) / 2, height=90 + 34 * len(rows)),
            key=f"round-criterion-{criterion}",
            config={"displayModeBar": False},
            alt=f"Mean score by {criterion}, with 95% intervals",
        )
        figures = [f"{name} {results_text.format_number(means[name, criterion])}" for name in present]
        st.caption(escape_markdown(f"{criterion}: {' · '.join(figures)}"))


def _draw_passes(systems: Sequence[str], passes: Passes) -> None:
    rates = compute_pass_rates(passes)
    present = [name for name in systems if name in rates]
    rows = [_build_interval_row(name, rates[name], place) for place, name in enumerate(present)]
    st.plotly_chart(
        charts.plot_intervals(rows, "Answers that pass (%)", level=50, height=90 + 34 * len(rows)),
        key="round-passes",
        config={"displayModeBar": False},
        alt="Share of answers that pass, with 95% intervals",
    )
    lines = [results_text.describe_pass_rate(name, rates[name]) for name in present]
    st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))


def _draw_corrections(round: RoundSummary) -> None:
    tasks = round_queries.list_tasks(round.round_id)
    items = {item.item_id: item for item in round_queries.list_items(round.round_id)}
    corrected = [task for task in tasks if task.purpose in COUNTING and "text" in get_task_answer(task)]
    changed = sum(
        get_task_answer(task)["text"] != items[task.item_id].answers[task.systems[0]] for task in corrected
    )
    st.markdown(
        f"{plural(len(corrected), 'answer')} reviewed, {changed:,} edited. Export them as training rows "
        "on the **Training data** tab."
    )
