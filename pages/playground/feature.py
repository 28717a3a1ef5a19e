"""Registration of the playground on the screens: a menu page, and the routes that stream answers."""

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
    build_routes=Deferred("pages.playground.chat", "build_chat_routes"),
)
