"""Registration of exports on the screens: a tab of a run and of a version."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureTab, PagesFeature
from pages.shared.layout import Tab

FEATURE = PagesFeature(
    tabs=[
        FeatureTab(
            "run",
            "slices",
            "export",
            Tab(":material/output: Export", Deferred("pages.export.tab", "draw_exports")),
        ),
        FeatureTab(
            "version",
            "lineage",
            "exports",
            Tab(":material/output: Exports", Deferred("pages.export.tab", "draw_version_exports")),
        ),
    ]
)
