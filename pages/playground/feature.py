"""Playground on the screens: a page of the menu, and the routes by which it hears models answer."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureScreen, PagesFeature, Screen

FEATURE = PagesFeature(
    screens=[
        FeatureScreen(
            "Judge",
            "evaluations",
            Screen(
                "pages/playground/playground.py",
                (("route", "POST /playground/generate"),),
                {
                    "title": "Playground",
                    "icon": ":material/forum:",
                    "url_path": "playground",
                    "help": "Talk to up to four models side by side,"
                    " and see how sure they are of every token.",
                },
            ),
        )
    ],
    build_routes=Deferred("pages.playground.chat_route", "build_chat_routes"),
)
