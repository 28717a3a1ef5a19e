"""Launch against a real engine and a real model of two layers: form, errors, YAML and preview."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from pages.shared import config_fields
from store.core.errors import StateError
from store.core.home import Home
from store.http.client import Client
from store.runs.runs import get_run
from store.training.methods import METHODS
from tests.pages.conftest import Open, everything_said

PAGE = "pages/training/launch.py"
CHANGE = '{"learning_rate": 5e-05, "model": "tiny-llama"}'


@pytest.fixture
def form(little_home: Home, open_page: Open) -> AppTest:
    """The form on the first data set with the two-layer model, previewed."""
    at = open_page(little_home, PAGE, dataset="d00000", change='{"model": "tiny-llama"}')
    assert not at.exception
    return at


def test_without_data_the_form_leads_to_the_import(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE)
    assert [link.proto.label for link in at.main.get("page_link")] == ["Import a data set first"]
    assert at.button(key="launch-button").disabled
    assert "No data sets yet. Import one first." in everything_said(at)


def test_the_preview_says_cost_and_marks_the_trained_tokens(form: AppTest) -> None:
    page_text = everything_said(form)
    for figure in ("Trained parameters", "Optimizer steps", "Rows to train on", "Memory", "Time"):
        assert figure in page_text
    assert "class='trained" in page_text
    assert "&lt;|im_start|&gt;" in page_text  # escaped: a row can't bring markup
    assert "<b>please</b>" not in page_text
    assert not form.button(key="launch-button").disabled


@pytest.mark.usefixtures("untimed")
def test_the_first_answer_stays_where_steps_can_not_be_timed(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset="d00000", change='{"model": "tiny-llama", "r": 3}')
    page_text = everything_said(at)
    assert "a rough estimate, until a few steps are timed" in page_text
    assert "The worker is lost" not in page_text
    assert not at.button(key="launch-button").disabled


@pytest.mark.feature("bias")
def test_a_bias_check_is_switched_on_with_what_it_takes(form: AppTest) -> None:
    assert "Bias check" not in everything_said(form)
    form.toggle(key="launch.bias_check").set_value(True).run()
    assert "base and tuned model, 184 pairs" in everything_said(form)
    assert yaml.safe_load(form.text_area(key="launch-yaml").value)["bias_check"] is True
    assert not form.button(key="launch-button").disabled


def test_another_row_is_shown_by_its_button(form: AppTest) -> None:
    before = _tokens(form)
    form.button(key="launch-next-row").click().run()
    assert "Row 2 of" in everything_said(form)
    assert _tokens(form) != before


def test_automatic_values_are_shown_and_follow_the_method(form: AppTest) -> None:
    assert form.text_input(key="launch.learning_rate").placeholder == "0.0001 (automatic)"
    form.get_by_key("launch.method").set_value("full").run()
    assert form.text_input(key="launch.learning_rate").placeholder == "0.00002 (automatic)"
    assert "launch.r" not in [field.key for field in form.text_input]  # no adapter, no rank


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("learning_rate", "abc", "'abc'"),
        ("per_device_train_batch_size", "0", "greater than or equal to 1"),
        ("num_train_epochs", "-1", "greater than 0"),
        ("max_length", "1e99", "max_length"),
        ("r", "4.5", "r is 4.5"),
    ],
)
def test_a_bad_number_is_said_at_its_field_and_blocks_the_launch(
    form: AppTest, field: str, typed: str, message: str
) -> None:
    form.text_input(key=f"launch.{field}").set_value(typed).run()
    assert not form.exception
    field_errors = [m.value.replace("\\", "") for m in form.markdown if m.value.startswith(":red[")]
    assert any(field in text and message in text for text in field_errors), field_errors
    assert form.button(key="launch-button").disabled
    # under the button: why it can't be pressed
    captions = [caption.value.replace("\\", "") for caption in form.caption]
    assert any(field in text and message in text for text in captions), captions


def test_the_hyperparameters_stay_open_when_their_error_is_mended(form: AppTest) -> None:
    def open_() -> bool:
        return next(e for e in form.expander if e.label == "Hyperparameters").proto.expanded

    assert not open_()
    form.text_input(key="launch.negligible_gain").set_value("lots").run()
    assert open_()
    (message,) = [m.value.replace("\\", "") for m in form.markdown if m.value.startswith(":red[")]
    assert message.endswith("negligible_gain is 'lots': input should be a valid number.]"), message
    form.text_input(key="launch.negligible_gain").set_value("0.02").run()
    assert not [m for m in form.markdown if m.value.startswith(":red[")]
    assert open_()


def test_every_bad_field_is_said_at_once(form: AppTest) -> None:
    form.text_input(key="launch.learning_rate").set_value("abc")
    form.text_input(key="launch.seed").set_value("-3").run()
    said_at = [m.value for m in form.markdown if m.value.startswith(":red[")]
    assert len(said_at) == 2


def test_form_and_yaml_follow_each_other(form: AppTest) -> None:
    form.text_input(key="launch.learning_rate").set_value("3e-4").run()
    document = yaml.safe_load(form.text_area(key="launch-yaml").value)
    assert document["learning_rate"] == 3e-4
    document |= {"method": "full", "num_train_epochs": 2}
    del document["learning_rate"]
    form.text_area(key="launch-yaml").set_value(yaml.safe_dump(document)).run()
    assert form.text_input(key="launch.learning_rate").value == ""
    assert form.text_input(key="launch.num_train_epochs").value == "2"
    assert form.get_by_key("launch.method").value == "full"


def test_yaml_that_is_wrong_is_kept_with_its_error(form: AppTest) -> None:
    form.text_area(key="launch-yaml").set_value("dataset: Sums 0\nlerning_rate: 1").run()
    assert "Did you mean learning_rate?" in form.error[0].value.replace("\\", "")
    assert "lerning_rate" in form.text_area(key="launch-yaml").value
    assert form.text_input(key="launch.learning_rate").value == ""


def test_a_model_that_is_not_there_is_said_at_the_model(form: AppTest) -> None:
    _choose_model(form, "/no/such/folder")
    assert form.selectbox(key="launch.model").value == "/no/such/folder"
    assert form.button(key="launch-button").disabled
    said_at = [m.value.replace("\\", "") for m in form.markdown if m.value.startswith(":red[")]
    assert any("/no/such/folder" in text for text in said_at)


@pytest.mark.usefixtures("untimed")
def test_a_run_is_cloned_and_changed_by_its_link(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, **{"from": "r000003", "change": CHANGE})
    assert at.text_input(key="launch.seed").value == "3"
    assert (
        at.text_input(key="launch.name").value == "LoRA on Sums 1 #3, learning_rate 0.00005, model tiny-llama"
    )
    assert at.text_input(key="launch.learning_rate").value == "0.00005"
    assert at.session_state["launch.parent"] == "r000003"
    changes = next(text.value for text in at.markdown if text.value.startswith("Changes "))
    assert "**LoRA on Sums 1 #3**: model SmolLM2" in changes.replace("\\", "")
    assert "learning_rate" in changes.replace("\\", "")
    at.button(key="launch-unlink").click().run()
    assert at.session_state["launch.parent"] == ""
    assert "Changes" not in everything_said(at)
    at = open_page(little_home, PAGE, **{"from": "r000003"})
    assert at.text_input(key="launch.name").value == "LoRA on Sums 1 #3 again"


def test_a_link_with_a_broken_change_says_so(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, **{"from": "r000003", "change": "{oops"})
    assert "a change that is none" in at.error[0].value


def test_the_methods_are_compared_and_one_is_taken(form: AppTest) -> None:
    form.session_state["launch-advice-open"] = True
    form.run()
    page_text = everything_said(form)
    assert "Take LoRA." in page_text
    for figure in ("Memory", "Time", "Saved on disk"):
        assert figure in page_text
    assert "Measured gain" not in page_text  # no run has these rows
    others = form.dataframe[0].value["Method"].tolist()
    assert len(others) == len(METHODS) - 3
    assert "IA3" in others
    assert form.button(key="advice-use-lora").disabled  # it is chosen
    form.number_input(key="price-per-hour").set_value(2.0).run()
    assert "costs 0.0" in everything_said(form)
    form.button(key="advice-use-full").click().run()
    assert form.get_by_key("launch.method").value == "full"
    assert form.button(key="advice-use-full").label == "Chosen"


def test_launch_starts_the_run_and_opens_its_page(form: AppTest, little_home: Home) -> None:
    form.text_input(key="launch.name").set_value("From the form")
    form.text_input(key="launch.max_steps").set_value("1").run()
    form.button(key="launch-button").click().run()
    assert not form.exception
    run_id = form.query_params["run"]
    run = get_run(Client(little_home), str(run_id))
    assert run.name == "From the form"
    assert run.config["max_steps"] == 1
    with suppress(StateError):  # one step may be over by now
        Client(little_home).command("cancel", {"job": run.run_id})


def test_without_an_engine_nothing_breaks(offline_home: Home, open_page: Open) -> None:
    at = open_page(offline_home, PAGE)
    assert "The engine is not running" in everything_said(at)


def _choose_model(at: AppTest, model: str) -> None:
    """As a user who types it; AppTest can't type what is not among the options."""
    document = yaml.safe_load(at.text_area(key="launch-yaml").value)
    at.text_area(key="launch-yaml").set_value(yaml.safe_dump(document | {"model": model})).run()
    assert not at.exception


def _tokens(at: AppTest) -> str:
    return "".join(re.findall(r"<div class='tb-tokens'>.*", everything_said(at)))


def test_a_leak_inside_given_parts_offers_another_deal_for_the_run() -> None:
    def mending(dealt: str) -> None:
        from pages.training.preview import show_leak_fixes
        from store.core.training_schemas import Preview
        from store.data.schemas import Dataset
        from store.training.split import Split
        from store.training.train_config import TrainConfig
        from tests.unit.store_samples import row_of

        dataset = row_of(Dataset, **{**Split().fields(), "split_by": dealt, "dataset_id": "d"})
        leaks = {"exact": 2, "near": 0, "same_prompt": 0, "checked_near": True}
        show_leak_fixes(row_of(Preview, leaks=leaks), TrainConfig(dataset="d"), dataset)

    at = AppTest.from_function(mending, args=("given",)).run()
    assert [button.label for button in at.button] == ["Split at random in this run", "To the tab Split"]
    at.button(key="launch-leaks-deal").click().run()
    assert at.session_state[config_fields.build_widget_key("split_by")] == "random"
    assert not AppTest.from_function(mending, args=("random",)).run().button
