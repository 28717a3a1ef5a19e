"""Registration of transfer on the screens: a tab of the comparison."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureTab, PagesFeature
from pages.shared.layout import Tab

FEATURE = PagesFeature(
    tabs=[
        FeatureTab(
            "comparison",
            "cost",
            "transfer",
            Tab(":material/grid_on: Transfer", Deferred("pages.transfer.tab", "draw_page")),
        )
    ]
)
