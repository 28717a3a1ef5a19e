"""What a closed round came to: who is better, whether length explains it, and how far people agree."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.rows.graded import CriterionScores, Passes
from engine.diagnostics.rating.rows.of_round import LENGTH, OVERALL, RoundRatings, answer_of
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.systems.comparing import MAX_PAIRS, Comparing, best_two, ranking
from engine.diagnostics.rating.systems.criteria import criterion_means, pass_rates
from engine.diagnostics.rating.systems.win_rates import position
from engine.diagnostics.rating.words import agreement_words, rating_words, rubric_words
from engine.diagnostics.rating.words.check_words import flagged_line
from engine.diagnostics.rating.words.label_words import HARD
from engine.diagnostics.rating.words.round_words import win_lines
from engine.diagnostics.statistics.statistics import Interval
from pages.rating import round_reads
from pages.rating.round_figures import agreeing, checks_of, comparing, ratings_of, telling_items
from pages.rating.round_judges import draw_judges
from pages.rating.round_labels import draw_labels
from pages.rating.round_ranking import draw_ranking
from pages.rating.round_report import draw_report
from pages.rating.round_table import draw_table
from pages.rating.round_texts import draw_label_sets, draw_spans, draw_written
from pages.shared import charts
from pages.shared.conversation import show_text
from pages.shared.palette import run_color
from pages.shared.session import plain
from store.documents.rating.round import COUNTING, RoundLine

NOT_COUNTED = ("label", "correction", "spans", "free_text")  # of which `ratings_of` has no figures


def draw_results(round: RoundLine) -> None:
    """The tab. A round in which nothing was said tells so."""
    ratings = ratings_of(round)
    if not round["rated"]:
        st.markdown("Nothing was rated in this round. Open it again, or delete it.")
        return
    left_out = round_reads.left_out(round["round_id"])
    if left_out:
        st.caption(f":material/person_off: Without {plural(len(left_out), 'rater')} left out, see People.")
    _draw_flagged(round, {rater["person_id"] for rater in left_out})
    if (telling := telling_items(round)) and round["protocol"] not in NOT_COUNTED:
        st.caption(
            f":material/info: Figures rest on the requests that were drawn at random;"
            f" {plural(len(telling), 'other')} were {HARD}."
        )
    compared = comparing(round)
    if ratings.comparisons is not None and compared is not None:
        _draw_comparing(ratings.comparisons, compared)
        _draw_agreement(round)
        _draw_disputed(round)
        draw_judges(round, ratings.comparisons)
    elif ratings.scores is not None and len(ratings.scores):
        _draw_scores(ratings)
        _draw_agreement(round)
    elif ratings.passes is not None and len(ratings.passes):
        _draw_passes(ratings.systems, ratings.passes)
        _draw_agreement(round)
    elif round["protocol"] == "correction":
        _draw_corrections(round)
    elif round["protocol"] == "label":
        draw_label_sets(round) if round["config"].get("several_labels") else draw_labels(round)
    elif round["protocol"] == "spans":
        draw_spans(round)
    elif round["protocol"] == "free_text":
        draw_written(round)
    else:
        st.markdown("Everything in this round was skipped, or its raters are left out.")
    if ratings.skipped:
        st.caption(f"{plural(ratings.skipped, 'task')} skipped.")
    with st.container(horizontal=True):
        draw_report(round)
        draw_table(round)


def _draw_flagged(round: RoundLine, left_out: set[str]) -> None:
    """How many ratings are of flagged raters who are not left out."""
    flagged = [
        each for each in checks_of(round) if each.flags and each.ratings and each.person_id not in left_out
    ]
    if flagged:
        st.warning(plain(flagged_line(flagged)), icon=":material/flag:")


def _draw_comparing(comparisons: Comparisons, compared: Comparing) -> None:
    headline, *more = rating_words.strengths_lines(compared.plain)
    with st.container(border=True, key="round-verdict"):
        st.subheader(plain(headline), anchor=False)
        sentences = [*more, *_beside(comparisons, compared)]
        st.markdown("\n".join(f"- {plain(sentence)}" for sentence in sentences))
    plain_order = [compared.plain.systems[place] for place in compared.plain.order]
    if len(plain_order) > 2:
        draw_ranking(ranking(compared.plain), compared.plain)
    else:
        st.plotly_chart(
            _strength_chart(compared),
            key="round-strengths",
            config={"displayModeBar": False},
            alt=f"Share of decided ratings that {plain_order[0]} would win, with its 95% interval",
        )
    with st.expander("Wins, ties and losses", on_change="rerun", key="round-wins") as box:
        if box.open:
            _draw_wins(comparisons, plain_order)


def _draw_wins(comparisons: Comparisons, names: Sequence[str]) -> None:
    """In sentences; of many models those that come first."""
    st.markdown("\n".join(f"- {plain(line)}" for line in win_lines(comparisons, names[:MAX_PAIRS])))
    if len(names) > MAX_PAIRS:
        st.caption(f"{MAX_PAIRS} of {len(names)} models, the strongest.")


def _beside(comparisons: Comparisons, compared: Comparing) -> list[str]:
    """Length and formatting, the side, more ratings, and whether looking again is needed."""
    best = best_two(compared.plain)
    if best is None:
        return []
    first, second = best.first, best.second
    lines = []
    if compared.equal is not None:
        pairs = (best, compared.equal.difference(first, second))
        lines.append(rating_words.held_equal_line(*pairs, " and ".join(comparisons.covariates)))
        for coefficient in compared.equal.coefficients:
            of_length = coefficient.name == LENGTH
            say = rating_words.length_line if of_length else rating_words.formatting_line
            lines.append(say(coefficient))
    if comparisons.differences is not None:  # of ranks the sides mean nothing
        lines.append(rating_words.position_line(position(comparisons)))
    if compared.more is not None:
        lines.append(rating_words.more_ratings_line(first, second, compared.more))
    lines += [
        rating_words.peek_line(peek)
        for peek in compared.peeks
        if {peek.first, peek.second} == {first, second}
    ]
    return lines


def _strength_chart(compared: Comparing) -> object:
    """The first of two against the second, as the share of decided ratings that it would win."""
    best = best_two(compared.plain)
    if best is None:
        return charts.interval_chart([], "")
    place = compared.plain.systems.index(best.second)
    rows = [_row(f"against {best.second}", best.share, place)]
    return charts.interval_chart(rows, f"Decided ratings that {best.first} would win (%)", level=50)


def _row(name: str, at: Interval, place: int) -> charts.IntervalRow:
    low, high = (None if end is None else 100 * end for end in (at.low, at.high))
    return charts.IntervalRow(name, 100 * at.value, low, high, run_color(place))


def _draw_agreement(round: RoundLine) -> None:
    st.subheader("Do people agree?", anchor=False)
    agreement = agreeing(round)
    lines = []
    for criterion, alpha in agreement.alphas.items():
        line = agreement_words.alpha_line(alpha)
        lines.append(f"{criterion}: {line}" if criterion else line)
    lines += agreement_words.kappa_lines(agreement.kappas)
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))


def _draw_disputed(round: RoundLine) -> None:
    """What people part on, as text."""
    agreement = agreeing(round)
    if not agreement.parted:
        return
    item_ids = tuple(int(dispute.item) for dispute in agreement.parted)
    title = f"{plural(agreement.parted_on, 'prompt')} on which people part"
    with st.expander(title, on_change="rerun", key="round-parted") as box:
        if not box.open:
            return
        items = round_reads.some_items(round["round_id"], item_ids)
        for dispute in agreement.parted:
            item = items[int(dispute.item)]
            st.markdown(f"**{plain(agreement_words.disputed_line(dispute))}**")
            show_text(item["prompt"][-1]["content"] if item["prompt"] else "", 600)
        if agreement.parted_on > len(item_ids):
            st.caption(f"{len(item_ids)} of {agreement.parted_on:,}; all answers are under Answers.")


def _draw_scores(ratings: RoundRatings) -> None:
    for scores in rubric_words.score_tables(ratings):
        _draw_means(ratings.systems, scores)
    lines = rubric_words.difference_lines(ratings)
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))


def _draw_means(systems: Sequence[str], scores: CriterionScores) -> None:
    means = criterion_means(scores)
    for criterion, (worst, best) in zip(scores.criteria, scores.scales, strict=True):
        title = f"{criterion}: mean of {worst:g} to {best:g}" if criterion != OVERALL else criterion
        present = [name for name in systems if (name, criterion) in means]
        rows = [
            charts.IntervalRow(name, at.value, at.low, at.high, run_color(place))
            for place, name in enumerate(present)
            for at in [means[name, criterion]]
        ]
        st.plotly_chart(
            charts.interval_chart(rows, title, level=(worst + best) / 2, height=90 + 34 * len(rows)),
            key=f"round-criterion-{criterion}",
            config={"displayModeBar": False},
            alt=f"Mean score by {criterion}, with 95% intervals",
        )
        figures = [f"{name} {rating_words.number_text(means[name, criterion])}" for name in present]
        st.caption(plain(f"{criterion}: {' · '.join(figures)}"))


def _draw_passes(systems: Sequence[str], passes: Passes) -> None:
    rates = pass_rates(passes)
    present = [name for name in systems if name in rates]
    rows = [_row(name, rates[name], place) for place, name in enumerate(present)]
    st.plotly_chart(
        charts.interval_chart(rows, "Answers that pass (%)", level=50, height=90 + 34 * len(rows)),
        key="round-passes",
        config={"displayModeBar": False},
        alt="Share of answers that pass, with 95% intervals",
    )
    lines = [rating_words.pass_line(name, rates[name]) for name in present]
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))


def _draw_corrections(round: RoundLine) -> None:
    tasks = round_reads.tasks(round["round_id"])
    items = {item["item_id"]: item for item in round_reads.items(round["round_id"])}
    corrected = [task for task in tasks if task["purpose"] in COUNTING and "text" in answer_of(task)]
    changed = sum(
        answer_of(task)["text"] != items[task["item_id"]]["answers"][task["systems"][0]] for task in corrected
    )
    st.markdown(
        f"{plural(len(corrected), 'answer')} looked at, {changed:,} of them changed. Under **Train on it**"
        " they become rows to train on."
    )
