"""The tab "Improve": nothing yet, the form and what is wrong with it, the chain in every state, the decision
for each answer, the schedule, what a viewer sees, and 200 improvements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.retraining.decision import describe_change, describe_rows_needed, estimate_rows_needed
from pages.retraining.improve_links import list_settings_models
from pages.retraining.steps import ImprovementContext, build_steps
from pages.shared import session
from store.core.figure_schemas import Estimate
from store.core.schemas import Person
from store.db.database import Database
from store.db.records import to_json
from store.monitoring.feedback import returned
from store.registry import model_versions
from store.registry.schemas import CheckReport
from store.retraining import improvements
from store.retraining.config import ImproveConfig, ImproveSchedule
from store.retraining.schemas import Improvement, ImprovementState
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed_improvements import ENDPOINT, NOW, seed_improvements
from tests.pages.still_engine import StillEngine, still_engine
from tunebench.agents.retraining import ImproveTools

PAGE = "pages/registry/models.py"


@pytest.fixture(scope="module")
def improving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_improvements(tmp_path_factory.mktemp("improving"))) as engine:
        yield engine


def _open(engine: StillEngine, open_page: Open, model: str = "trec", **query: str) -> AppTest:
    engine.sent.clear()
    return open_page(engine.home, PAGE, model=model, tab="improve", **query)


def _keys(at: AppTest) -> set[str]:
    return {str(button.key) for button in at.button}


def _improvement(database: Database, state: str) -> Improvement:
    return improvements.get(database, f"i-{state}")


def test_before_the_first_one_it_says_what_has_to_be_there(improving: StillEngine, open_page: Open) -> None:
    at = _open(improving, open_page, "bare")
    assert "No version is in use yet" in everything_said(at)
    assert "improve-begin-go" not in _keys(at)
    at = _open(improving, open_page, "silent")
    assert "No feedback yet" in everything_said(at)
    assert "/v1/feedback" in at.code[0].value


def test_the_form_says_what_came_back_and_what_it_will_take(improving: StillEngine, open_page: Open) -> None:
    text = everything_said(_open(improving, open_page, "fresh"))
    assert "1 correction and 39 labels" in text
    assert "texts available for 36 of 40 requests" in text
    assert "LoRA on tiny" in text
    assert "2 points of Accuracy" in text
    assert "Estimated training time: 4 min with 25 additional rows" in text


def test_a_bad_field_is_named_where_it_is_and_a_good_form_is_sent(
    improving: StillEngine, open_page: Open
) -> None:
    at = _open(improving, open_page, "fresh")
    at.button_group(key="improve-begin-kinds").set_value([]).run()
    at.button(key="improve-begin-go").click().run()
    assert "Sources of new rows: this field is required." in everything_said(at)
    at.button_group(key="improve-begin-kinds").set_value(["dataset"]).run()
    at.selectbox(key="improve-begin-dataset").set_value("data-D").run()
    at.button(key="improve-begin-go").click().run()
    assert "At least 20 new rows are needed; there are 9." in everything_said(at)
    at.button_group(key="improve-begin-kinds").set_value(["feedback"]).run()
    at.button(key="improve-begin-go").click().run()
    assert not at.exception
    name, body = improving.sent[-1]
    config = ImproveConfig.parse(body)
    assert (name, config.model, config.alias, config.metric) == (
        "begin_improvement", "fresh", "production", "accuracy",
    )  # fmt: skip
    assert (config.margin, config.held_out, config.run) == (0.02, 0.3, "")
    assert [rows.source for rows in config.rows] == ["feedback"]


def test_a_group_that_no_source_takes_is_an_error_and_no_source(
    improving: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers name groups, which may hold a line break."""
    (line,) = returned(improving.database, "fresh")
    monkeypatch.setattr(
        "pages.retraining.retraining_queries.list_returned", lambda *_: [replace(line, groups=["a\nb"])]
    )
    at = _open(improving, open_page, "fresh")
    at.selectbox(key="improve-begin-group").set_value("a\nb").run()
    assert not at.exception
    assert "its character 2 is a line break" in everything_said(at)
    at.button(key="improve-begin-go").click().run()
    assert "Sources of new rows: this field is required." in everything_said(at)
    assert improving.sent == []


def test_a_link_fills_the_form_in(improving: StillEngine, open_page: Open) -> None:
    at = _open(improving, open_page, "fresh", round="round-1", dataset="D")
    assert at.button_group(key="improve-begin-kinds").value == ["round", "dataset"]
    assert "The round is still open; the improvement waits until it is closed" in everything_said(at)
    at.button(key="improve-begin-go").click().run()
    sources = improving.sent[-1][1]["rows"]
    assert [source["source"] for source in sources] == ["round", "dataset"]


@pytest.mark.parametrize("state", get_args(ImprovementState))
def test_the_chain_is_drawn_in_every_state(
    improving: StillEngine, open_page: Open, state: ImprovementState
) -> None:
    at = _open(improving, open_page, improvement=f"i-{state}")
    text = everything_said(at)
    assert "<i>" not in text.replace(f"<i>{state}</i>", "")
    improvement = _improvement(improving.database, state)
    standing = {step.key: step.standing for step in build_steps(improvement, ImprovementContext("trec"))}
    expected = {
        "labelling": ("labelling", "person"), "deciding": ("deciding", "person"),
        "failed": ("training", "failed"), "stopped": ("joining", "stopped"),
        "promoted": ("deciding", "done"), "declined": ("deciding", "done"),
        "waiting": ("gathering", "person"),
    }  # fmt: skip
    key, how = expected.get(state, (state, "now"))
    assert standing[key] == how
    assert ("labelling" in standing) == (state == "labelling")


def test_rows_are_accounted_for_and_chosen_ones_are_called_that(
    improving: StillEngine, open_page: Open
) -> None:
    at = _open(improving, open_page, improvement="i-training")
    text = everything_said(at)
    assert "<b>91</b> for training" in text
    assert "**13** the log has no text of the request" in text
    assert "not how it does on all requests" in at.warning[0].value
    links = {link.proto.label: link.proto.query_string for link in at.get("page_link")}
    assert links["The run"] == "run=run-2"
    assert links["The rows"].startswith("dataset=data-New")


def test_new_rows_at_random_are_not_called_chosen_for_the_earlier_ones_beside_them() -> None:
    def fate() -> None:
        from types import SimpleNamespace

        from pages.retraining.improvement import draw_fate
        from store.retraining.config import FeedbackRowSource
        from store.retraining.schemas import GatheredRows, Improvement, ReusedJudgingRows
        from tests.unit.store_samples import row_of

        rows = GatheredRows(
            asked=40, train=28, held_out=12, left_out={}, held_out_random=True, only_train=0, corrects=0,
            again=ReusedJudgingRows(rows=24, times={"1": 24}, random=0, left_out={}),
        )  # fmt: skip
        improvement = row_of(
            Improvement,
            config=SimpleNamespace(rows=[FeedbackRowSource(endpoint="e")]),
            facts={"rows": rows},
            state="training",
        )
        draw_fate(improvement)

    at = AppTest.from_function(fate).run()
    assert "what people chose" not in everything_said(at)
    assert "The held-out new rows were sampled at random" in everything_said(at)
    assert "None of the earlier ones was sampled at random" in everything_said(at)
    assert "not all of the earlier held-out rows" in at.warning[0].value


def test_what_failed_can_be_gone_on_with(improving: StillEngine, open_page: Open) -> None:
    at = _open(improving, open_page, improvement="i-failed")
    assert "The run ran out of memory." in at.error[0].value
    at.button(key="improve-resume").click().run()
    assert improving.sent[-1] == ("resume_improvement", {"improvement": "i-failed"})


def test_what_waits_for_rows_is_no_failure_and_is_gone_on_with(
    improving: StillEngine, open_page: Open
) -> None:
    at = _open(improving, open_page, improvement="i-waiting")
    assert not at.error
    assert "12 of 16 new rows are usable" in at.warning[0].value
    text = everything_said(at)
    assert "Waiting for rows" in text
    assert "12 usable, at least 20 needed" in text
    assert "for training" not in text
    assert "**4** the log has no text of the request" in text
    at.button(key="improve-resume").click().run()
    assert improving.sent[-1] == ("resume_improvement", {"improvement": "i-waiting"})


def test_what_is_passed_is_promoted_by_one_button(improving: StillEngine, open_page: Open) -> None:
    at = _open(improving, open_page, improvement="i-asked-passed")
    text = everything_said(at)
    assert "Accuracy 91% (88 to 94, n 300)" in text
    assert "6 points better (2 to 10, n 300)" in text
    assert "Better than the version in use" in text
    judged_by = "38 new rows, 9 that were held out earlier but not used and 52 held out before"
    assert f"Evaluated on **{judged_by}**" in text
    assert "A row is held out for at most 4 improvements" in text
    assert "**3** answered differently since" in text
    assert "Support <b> serves trec@production" in text
    assert "improve-override-sure" not in _keys(at)
    at.text_area(key="improve-reason").set_value("Better on what people said.").run()
    at.button(key="improve-promote").click().run()
    assert improving.sent[-1] == (
        "decide_improvement",
        {
            "improvement": "i-asked-passed", "promote": True, "reason": "Better on what people said.",
            "override": False,
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [("failed", "Worse than the version in use"), ("cant_tell", "Inconclusive: these rows")],
)
def test_what_is_not_passed_is_declined_or_an_admins_to_override(
    improving: StillEngine, open_page: Open, answer: str, words: str
) -> None:
    at = _open(improving, open_page, improvement=f"i-asked-{answer}")
    assert words in everything_said(at)
    assert "improve-promote" not in _keys(at)
    at.button(key="improve-override-sure").click().run()
    assert improving.sent[-1][1]["override"] is True
    at.button(key="improve-decline").click().run()
    assert improving.sent[-1][1]["promote"] is False


def test_a_viewer_sees_everything_and_is_offered_nothing(
    improving: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = Person(person_id="v", name="Vi", role="viewer")
    monkeypatch.setattr(session, "get_current_person", lambda: viewer)
    at = _open(improving, open_page, improvement="i-asked-passed")
    assert "6 points better" in everything_said(at)
    assert not {key for key in _keys(at) if key.startswith("improve-")} - {"improve-back"}
    at = _open(improving, open_page, "fresh")
    assert "A member can start an improvement." in everything_said(at)
    assert "improve-begin-go" not in _keys(at)


def test_a_schedule_is_set_shows_how_far_it_is_and_goes_off(improving: StillEngine, open_page: Open) -> None:
    at = _open(improving, open_page, "fresh")
    assert "Promotion is always your decision" in everything_said(at)
    at.number_input(key="improve-schedule-least_rows").set_value(50).run()
    at.button(key="improve-schedule-save").click().run()
    name, body = improving.sent[-1]
    schedule = ImproveSchedule.parse(body)
    assert (name, schedule.least_rows, schedule.every_hours) == ("schedule_improvement", 50, 24)
    model_id = model_versions.get_model(improving.database, "fresh").model_id
    with improving.database.transaction() as tx:
        row = [model_id, to_json(schedule.document()), "owner", "Olga", NOW, NOW, 9, None]
        tx.execute("INSERT INTO improvement_schedule VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    at = _open(improving, open_page, "fresh")
    assert "9 of 50" in everything_said(at)
    assert "41 rows to go" in everything_said(at)
    at.button(key="improve-unschedule").click().run()
    assert improving.sent[-1] == ("unschedule_improvement", {"model": "fresh"})


def test_two_hundred_come_a_page_at_a_time(improving: StillEngine, open_page: Open) -> None:
    at = _open(improving, open_page, "many")
    assert "200 improvements of many" in everything_said(at)
    lines = [link for link in at.get("page_link") if "improvement=i-many" in link.proto.query_string]
    assert len(lines) == 10


def test_a_decision_that_waits_is_on_top_of_the_models(improving: StillEngine, open_page: Open) -> None:
    text = everything_said(open_page(improving.home, PAGE))
    assert "4 improvements wait for your decision" in text


def test_what_came_back_is_counted_by_request(improving: StillEngine) -> None:
    (line,) = returned(improving.database, "trec")
    assert (line.endpoint_id, line.requests, line.corrections) == (ENDPOINT, 143, 3)
    assert (line.with_texts, line.names, line.people) == (129, ["you"], 1)
    assert returned(improving.database, "tre") == []


def test_an_agent_reads_them_with_their_intervals_and_decides_nothing(improving: StillEngine) -> None:
    tools = ImproveTools(lambda: improving.database)  # type: ignore[arg-type,return-value]
    listed = tools.list_improvements("trec", 3)
    assert (len(listed["improvements"]), listed["may_be_more"]) == (3, True)
    unsure, failed, passed = listed["improvements"]
    assert (
        "Not worse on the new rows: inconclusive: change 0.01 share (95% interval -0.05 to 0.07, n 300"
        in unsure["checks"][1]
    )
    assert (passed["new_version"], passed["in_use"]) == ("trec@2", "trec@1")
    assert str(passed["judged_by"]).startswith("38 new rows, 9 that")
    assert failed["checks"][1].startswith(
        "Not worse on the new rows: significantly worse than the margin allows"
    )
    assert {line["state"] for line in tools.list_improvements()["improvements"]} >= {
        "Training",
        "Waiting for rows",
        "Waiting for a decision",
    }


def test_how_many_rows_would_tell_is_what_a_normal_says() -> None:
    """Of equally good versions the lower end of the interval clears the margin in 80 of 100 cases."""
    rng = np.random.default_rng(0)
    n, sd, margin = 200, 0.3, 0.02
    half = 1.96 * sd / n**0.5
    needed = estimate_rows_needed(Estimate(value=0.0, low=-half, high=half, n=n), -margin)
    assert needed is not None
    means = rng.normal(0, sd / needed**0.5, 20_000)
    assert np.mean(means - 1.96 * sd / needed**0.5 > -margin) == pytest.approx(0.8, abs=0.02)


def test_rows_of_a_link_without_a_model_ask_for_which(improving: StillEngine, open_page: Open) -> None:
    at = open_page(improving.home, PAGE, dataset="data-D", slice="s1")
    assert "Choose the model that these rows are for" in at.info[0].value
    link = next(link for link in at.get("page_link") if link.proto.label == "**fresh**")
    assert link.proto.query_string == "model=fresh&tab=improve&dataset=data-D&slice=s1"


def test_only_registered_models_are_led_to() -> None:
    routes = [{"subject": "trec@production"}, {"subject": "a run"}, {"subject": "org/name@main"}]
    assert list_settings_models({"models": [{"routes": routes}, {"routes": [{"subject": "trec@2"}]}]}) == [
        "trec"
    ]


def test_a_change_is_written_by_its_side() -> None:
    change = Estimate(value=0.012, low=-0.004, high=0.028, n=300)
    assert describe_change(change, shares=True) == "1.2 points better (0.4 worse to 2.8 better, n 300)"
    wide = Estimate(value=0.01, low=-0.04, high=0.06, n=300)
    assert describe_change(wide, shares=True).startswith("1 point better")
    worse = Estimate(value=-0.14, low=-0.19, high=-0.09, n=300)
    assert describe_change(worse, shares=True) == "14 points worse (9 to 19, n 300)"


def test_a_row_that_stayed_out_stands_beside_the_row_that_judges_which_it_repeats() -> None:
    def fate() -> None:
        from types import SimpleNamespace
        from unittest.mock import patch

        from pages.retraining.improvement import draw_fate
        from pages.shared import cached_queries
        from store.core.documents import parse_document
        from store.data.schemas import SkippedRow
        from store.retraining.schemas import Improvement, ImprovementFacts
        from tests.unit.store_samples import new_dataset, row_of

        reason = "paraphrases the question of a held-out old row"
        rows = {"asked": 40, "train": 28, "held_out": 11, "left_out": {reason: 1}, "held_out_random": True}
        partner = {"line": 3, "reason": reason, "fingerprint": "f", "row_id": 1204}
        rows |= {"only_train": 0, "corrects": 0, "repeats": 1, "repeating": [partner]}
        rows |= {"slipping": {"judging": 100, "short": 0, "recognised": 1, "most": 2, "allowed": 1}}
        improvement = row_of(
            Improvement,
            config=SimpleNamespace(rows=[]),
            state="training",
            facts=parse_document(ImprovementFacts, {"rows": rows, "rows_dataset_id": "new"}),
        )
        skipped = SkippedRow(line=3, reason=reason, excerpt="Where is its nest?")
        with (
            patch.object(cached_queries, "find_skipped_row", lambda *_: skipped),
            patch.object(
                cached_queries,
                "list_datasets",
                lambda: [new_dataset("d", "Birds")],
            ),
            patch.object(
                cached_queries, "read_dataset_row", lambda *_: [{"text": "Where does the heron nest?"}]
            ),
        ):
            draw_fate(improvement)

    text = everything_said(AppTest.from_function(fate).run())
    assert "Where is its nest?" in text
    assert "Where does the heron nest?" in text
    assert "Row 1,204 of Birds (held out)" in text
    assert "1 new row repeats a held-out row" in text
    assert "at most 2 of the 100 held-out old rows" in text


def test_where_slips_could_make_the_difference_the_card_says_so_once_and_asks_for_no_rows() -> None:
    def card() -> None:
        from dataclasses import replace
        from unittest.mock import patch

        from pages.retraining import decision
        from store.core.figure_schemas import Estimate
        from store.core.model_schemas import ModelSummary
        from store.registry.schemas import CheckReport, GateReport
        from store.retraining import text as improvement_text
        from store.retraining.schemas import Improvement
        from tests.unit.store_samples import row_of

        old = CheckReport(
            check="not_worse_than", title="Old rows", answer="cant_tell", sentence="", limit=-0.02,
            unit="share", value=Estimate(value=0.1, low=-0.01, high=0.21, n=50), lifted=0.06, other="m@1",
            evaluations=[],
        )  # fmt: skip
        gate = GateReport(
            reference="m@2", alias="production", holder="m@1", answer="cant_tell", sentence="",
            checks=[old, replace(old, title="New rows", answer="passed", lifted=0.0)],
        )  # fmt: skip
        gate.sentence = improvement_text.describe_outcome(gate)
        improvement = row_of(Improvement, facts={"gate": gate}, state="measuring", alias="a")
        model = row_of(ModelSummary, name="m")
        with patch.object(decision, "_draw_figures", lambda *_: None):
            decision.draw_decision(model, improvement)

    text = everything_said(AppTest.from_function(card).run())
    assert text.count("it would have passed if not for repeats that may have leaked") == 1
    assert text.lower().count("would have passed if not for repeats") == 1
    assert "held-out rows would show it" not in text


def test_more_rows_are_advised_where_it_is_not_repeats_that_keep_it_open() -> None:
    check = CheckReport(
        check="not_worse_than", title="", answer="cant_tell", sentence="", limit=-0.02,
        unit="share", value=Estimate(value=0.0, low=-0.1, high=0.1, n=50), other="m@1",
        evaluations=[],
    )  # fmt: skip
    assert "held-out rows would show it" in describe_rows_needed(check)
    assert describe_rows_needed(replace(check, value=Estimate(value=0.1, low=-0.01, high=0.21, n=50))) == ""


@pytest.mark.parametrize("unit", ["share", "bits per byte"])
def test_what_slips_lift_is_said_in_the_unit_of_the_check(unit: str) -> None:
    def fate(unit: str) -> None:
        from types import SimpleNamespace

        from pages.retraining.improvement import draw_fate
        from store.registry.schemas import CheckReport, GateReport
        from store.retraining.schemas import GatheredRows, Improvement, LeakageEstimate
        from tests.unit.store_samples import row_of

        rows = GatheredRows(
            asked=40, train=28, held_out=12, left_out={}, held_out_random=True, only_train=0, corrects=0,
            repeats=1,
            slipping=LeakageEstimate(judging=100, short=0, recognised=1, most=2, allowed=1),
        )  # fmt: skip
        old = row_of(CheckReport, check="not_worse_than", unit=unit, lifted=0.02)
        facts = {"rows": rows, "rows_dataset_id": "new", "gate": row_of(GateReport, checks=[old])}
        improvement = row_of(Improvement, config=SimpleNamespace(rows=[]), state="deciding", facts=facts)
        draw_fate(improvement)

    text = everything_said(AppTest.from_function(fate, args=(unit,)).run())
    assert ("may lift the share by up to 2 points" in text) == (unit == "share")
    assert ("may lift it by 0.02 bits per byte" in text) == (unit != "share")
