"""Rating on the screens: the routes by which the page in which people rate reaches the engine."""

from __future__ import annotations

from pages.shared.features import Deferred, PagesFeature

FEATURE = PagesFeature(build_routes=Deferred("pages.rating.rater.routes", "build_rating_routes"))
