"""Registration of the model registry on the screens: a menu page, and links with runs and model selectors."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureScreen, PagesFeature, Screen

FEATURE = PagesFeature(
    screens=[
        FeatureScreen(
            "Ship",
            "",
            Screen(
                "pages/registry/models.py",
                (("query", "registry.model_versions.list_models"),),
                {
                    "title": "Models",
                    "icon": ":material/deployed_code:",
                    "url_path": "models",
                    "help": "Registered versions, their aliases, gates and lineage.",
                },
            ),
        )
    ],
    subject_pages={"model": "pages/registry/models.py"},
    list_model_names=Deferred("pages.registry.registration", "list_model_names"),
    draw_run_button=Deferred("pages.registry.registration", "draw_run_button"),
    draw_run_use=Deferred("pages.registry.registration", "draw_registered"),
)
