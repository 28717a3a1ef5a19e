"""What a viewer is not offered, as the engine would refuse it."""

from __future__ import annotations

from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, VIEWER

RUN = "pages/run/run.py"


def test_bundles_and_bias_checks_are_for_members(open_as: OpenAs) -> None:
    for person, offered in ((ADA, True), (VIEWER, False)):
        at = open_as(person, RUN, run="r000001")
        keys = {button.key for button in at.button}
        assert ("run-bundle" in keys, "bias-open" in keys) == (offered, offered)
