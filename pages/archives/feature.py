"""Archives on the screens: a run's bundle on demand, and where a run from a bundle comes from."""

from __future__ import annotations

from pages.shared.features import Deferred, PagesFeature

FEATURE = PagesFeature(
    draw_run_action=Deferred("pages.archives.bundle", "draw_bundle"),
    draw_run_origin=Deferred("pages.archives.reproduction", "draw_reproduction"),
)
