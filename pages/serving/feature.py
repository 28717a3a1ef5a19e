"""Registration of endpoints on the screens: a menu page."""

from __future__ import annotations

from pages.shared.features import FeatureScreen, PagesFeature, Screen

FEATURE = PagesFeature(
    screens=[
        FeatureScreen(
            "Ship",
            "models",
            Screen(
                "pages/serving/endpoints.py",
                (("route", "GET /endpoints"),),
                {
                    "title": "Endpoints",
                    "icon": ":material/dns:",
                    "url_path": "endpoints",
                    "help": "Models served with an OpenAI-compatible API: usage, keys and request logs.",
                },
            ),
        )
    ],
    subject_pages={"endpoint": "pages/serving/endpoints.py"},
)
