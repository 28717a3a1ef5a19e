"""Registration of rating on the screens: a menu page, rounds on the pages of runs and data sets, and the
routes through which the rating desk reaches the engine.
"""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureScreen, FeatureTab, PagesFeature, Screen
from pages.shared.layout import Tab

FEATURE = PagesFeature(
    screens=[
        FeatureScreen(
            "Judge",
            "evaluations",
            Screen(
                "pages/rating/rating.py",
                (
                    ("command", "rounds_to_rate"),
                    ("query", "rating.rounds.list_rounds"),
                ),
                {
                    "title": "Rating",
                    "icon": ":material/rate_review:",
                    "url_path": "rating",
                    "help": "Raters compare or score answers without knowing which model wrote them.",
                },
            ),
        )
    ],
    tabs=[
        FeatureTab(
            "run",
            "samples",
            "rating",
            Tab("Ratings", Deferred("pages.rating.rounds", "draw_run_rounds")),
            "outputs",
        )
    ],
    subject_pages={"round": "pages/rating/rating.py"},
    draw_comparison_part=Deferred("pages.rating.rounds", "draw_rounds_between"),
    draw_dataset_origin=Deferred("pages.rating.rounds", "draw_dataset_origin"),
    build_routes=Deferred("pages.rating.rater.routes", "build_rating_routes"),
)
