"""Registration of improvements on the screens: a tab of a model, pending decisions, and links to the form."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureTab, PagesFeature
from pages.shared.layout import Tab

_WAITING = Deferred("pages.retraining.improve_links", "draw_pending_improvements")

FEATURE = PagesFeature(
    tabs=[
        FeatureTab(
            "version",
            "gate",
            "improve",
            Tab(":material/autorenew: Improve", Deferred("pages.retraining.tab", "draw_improve")),
        )
    ],
    notices={"overview": _WAITING, "models": _WAITING},
    draw_slice_use=Deferred("pages.retraining.improve_links", "draw_slice_use"),
    draw_row_use=Deferred("pages.retraining.improve_links", "draw_row_use"),
)
