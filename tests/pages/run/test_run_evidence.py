"""The evidence on a run's page: where it ended, what it forgot, what it knows by heart."""

from __future__ import annotations

from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import PAGE, charts, on_forgetting, on_overfitting
from tests.pages.still_engine import StillEngine


def test_the_stage_of_a_run_with_its_evidence(engine: StillEngine, open_page: Open) -> None:
    at = on_overfitting(open_page(engine.home, PAGE, run="overfit"))
    page_text = everything_said(at)
    assert "Memorizing" in page_text
    assert "Validation loss is higher than loss on training rows by" in page_text
    assert page_text.count("It memorized its training rows") == 2  # in the verdict, and on the tab
    assert "200 training rows and 200 validation rows" in page_text
    losses = charts(at)["Loss on rows it trains on and on rows it never saw"]
    assert {"Gap", "Training rows", "Validation rows", "GL", "Best step"} <= {
        t["name"] for t in losses["data"]
    }
    table = at.dataframe[0].value
    assert list(table["Score"]) == ["Loss", "Loss beyond the base's", "Min-K%"]
    assert all("(" in cell for cell in table["Excess"])
    assert "AUC" in {trace["name"] for trace in losses["data"]}
    assert "the AUC that separates training from validation rows" in page_text
    at = on_overfitting(open_page(engine.home, PAGE, run="learned"))
    # It fell by 1.2% at last: less than five validations could move by chance.
    assert "Can't tell from 200 validation rows whether it is still learning" in everything_said(at)


def test_why_there_is_no_evidence_of_overfitting(engine: StillEngine, open_page: Open) -> None:
    page_text = everything_said(on_overfitting(open_page(engine.home, PAGE, run="twin")))
    assert "training rows were not measured in this run. Clone the run" in page_text
    assert "Not tested in this run." in page_text
    at = on_overfitting(open_page(engine.home, PAGE, run="live"))
    page_text = everything_said(at)
    assert "comes with the verdict; until then the curves below are live" in page_text
    assert "Tested when training ends, with the verdict." in page_text
    assert "Loss on rows it trains on and on rows it never saw" in charts(at)
    assert "first validation" in everything_said(on_overfitting(open_page(engine.home, PAGE, run="queued")))


def test_what_it_forgot_stands_among_the_key_numbers(engine: StillEngine, open_page: Open) -> None:
    numbers = {m.label: m for m in open_page(engine.home, PAGE, run="overfit").metric}
    assert numbers["Forgetting, prose loss"].value == "3.003 → 3.318"
    assert numbers["Forgetting, prose loss"].delta.startswith("+0.315 (0.306 to ")
    numbers = {m.label: m for m in open_page(engine.home, PAGE, run="worse").metric}
    assert "Forgetting, prose loss" not in numbers


def test_what_a_run_forgot_with_the_questions_behind_it(engine: StillEngine, open_page: Open) -> None:
    at = on_forgetting(open_page(engine.home, PAGE, run="overfit"))
    page_text = everything_said(at)
    assert "It forgot much: the loss on plain prose rose by 0.3" in page_text
    assert page_text.count("It forgot much") == 2  # under the verdict's headline, and on the tab
    numbers = {metric.label: metric for metric in at.metric}
    assert numbers["Loss on plain prose"].delta.startswith("+0.3")
    assert numbers["Accuracy on questions (%)"].delta.endswith("points")
    assert "nats a token" in numbers["KL to the base, general texts"].delta
    assert "No probe was paid for while it trained" not in page_text
    table = at.dataframe[-1].value
    assert list(table.columns) == ["Question", "Right", "Base model", "Tuned model", "Category"]
    assert len(table) == 10
    assert (table["Base model"] == table["Right"]).all()
    assert (table["Tuned model"] != table["Right"]).all()
    at.segmented_control(key="forgetting-only").set_value("won").run()
    assert (at.dataframe[-1].value["Tuned model"] == at.dataframe[-1].value["Right"]).all()


def test_why_nothing_is_said_of_forgetting(engine: StillEngine, open_page: Open) -> None:
    assert "Not measured in this run" in everything_said(
        on_forgetting(open_page(engine.home, PAGE, run="twin"))
    )
    assert "measured when training ends, with the verdict" in everything_said(
        on_forgetting(open_page(engine.home, PAGE, run="live"))
    )


def test_what_a_run_knows_by_heart(engine: StillEngine, open_page: Open) -> None:
    at = on_overfitting(open_page(engine.home, PAGE, run="overfit"))
    page_text = everything_said(at)
    assert "12 of 40 training rows come out nearly verbatim" in page_text
    assert "Of 49 training rows of the probe 40 asked; 6 rows left out" in page_text
    assert "40 rows, the most similar first" in page_text
    assert "⏎ and a map" in page_text
    assert ":red-background[a clock mender" in page_text
    assert (
        "Canaries inserted 4 times and 16 times are exposed" in page_text
        or "Canaries inserted 16 times" in page_text
    )
    assert "15 of 100 held-out rows repeat a training row (15 word for word)" in page_text
    assert "60 of 400 training rows occur more than once" in page_text
    at.segmented_control(key="memory-part").set_value("held_out").run()
    page_text = everything_said(at)
    assert "20 rows, the most similar first" in page_text
    assert ":red-background" not in page_text


def test_a_run_that_knows_nothing_by_heart(engine: StillEngine, open_page: Open) -> None:
    page_text = everything_said(on_overfitting(open_page(engine.home, PAGE, run="learned")))
    assert "None of 40 training rows could be extracted" in page_text
    assert "Each of 400 training rows occurs once." in page_text
