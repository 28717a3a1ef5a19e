"""Endpoints on the screens: a page of the menu."""

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
                    "help": "Models behind OpenAI's protocol: how to call them, who may, and what was asked.",
                },
            ),
        )
    ],
    subject_pages={"endpoint": "pages/serving/endpoints.py"},
)
