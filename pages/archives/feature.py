"""Registration of archives on the screens: a run's bundle, and the origin of a run from a bundle."""

from __future__ import annotations

from pages.shared.features import Deferred, PagesFeature

FEATURE = PagesFeature(
    draw_run_action=Deferred("pages.archives.bundle", "draw_bundle"),
    draw_run_origin=Deferred("pages.archives.reproduction", "draw_reproduction"),
)
