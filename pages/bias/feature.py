"""Registration of bias checks on the screens: a view and a summary of each run; parts of launches,
evaluations and monitors.
"""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureTab, PagesFeature
from pages.shared.layout import Tab

FEATURE = PagesFeature(
    tabs=[
        FeatureTab(
            "run",
            "slices",
            "bias",
            Tab("Bias", Deferred("pages.bias.results", "draw_bias")),
            "evaluations",
        )
    ],
    draw_run_summary=Deferred("pages.bias.results", "draw_summary"),
    build_preview_facts=Deferred("pages.bias.form", "build_preview_facts"),
    draw_evaluation_part=Deferred("pages.bias.results", "draw_groups"),
    draw_schedule_field=Deferred("pages.bias.form", "draw_schedule_field"),
    draw_scheduled_check=Deferred("pages.bias.results", "draw_scheduled_check"),
)
