"""Bias on the screens: a tab and a line of each run."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureTab, PagesFeature
from pages.shared.layout import Tab

FEATURE = PagesFeature(
    tabs=[
        FeatureTab(
            "run",
            "between",
            "bias",
            Tab(":material/balance: Bias", Deferred("pages.bias.results", "draw_bias")),
        )
    ],
    draw_run_summary=Deferred("pages.bias.results", "draw_summary"),
)
