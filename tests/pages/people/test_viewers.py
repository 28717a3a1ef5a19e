"""What a viewer is not offered, as the engine would refuse it."""

from __future__ import annotations

from store.contract.roles import OWNER
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, VIEWER

RUN = "pages/run/run.py"


def test_bundles_and_bias_checks_are_for_members(open_as: OpenAs) -> None:
    for person, offered in ((ADA, True), (VIEWER, False)):
        at = open_as(person, RUN, run="r000001")
        keys = {button.key for button in at.button}
        assert ("run-bundle" in keys, "bias-open" in keys) == (offered, offered)


def test_paths_are_for_the_owner_of_the_machine(open_as: OpenAs) -> None:
    """Who may import and register, and would be refused for a path."""
    for person, offered in ((OWNER, True), (ADA, False)):
        at = open_as(person, "pages/data/data.py", view="import")
        assert ("A file on this machine" in at.get_by_key("import-kind").options) is offered
        at = open_as(person, RUN, run="r000001", tab="bias")
        assert ("bias-path" in {field.key for field in at.text_input}) is offered
        at = open_as(person, "pages/models/models.py")
        choices = [group for group in at.get("button_group") if group.key == "models-what"]
        assert bool(choices) is offered
