"""Entry point of the screens: page frame, navigation by role, and the banner shown while the engine is
unreachable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from pages.shared import brand, layout
from pages.shared.features import Screen
from pages.shared.menu import ASIDE, MENU, build_menu, list_screens
from pages.shared.session import draw_engine_banner, get_current_person, redraw_if_asked
from store.core.errors import EngineUnavailable, SignedOutError
from store.core.schemas import Role

st.set_page_config(page_title="Tunebench", page_icon=brand.render_mark(), layout="wide")


def build_page(screen: Screen, role: Role) -> StreamlitPage:
    """As the navigation takes it. One that is not for this role is not in the menu, and a link to it leads to
    who may open it."""
    about = dict(screen.about)
    if role not in screen.roles:
        about |= {"visibility": "hidden", "default": False}
    return st.Page(screen.path, **about)


def pages_of(role: Role) -> dict[str, dict[StreamlitPage, Screen | None]]:
    """The groups of the navigation; pages of the last one are hidden there and linked below it."""
    sections: dict[str, Sequence[Screen]] = {**build_menu(), "Aside": ASIDE}
    groups: dict[str, dict[StreamlitPage, Screen | None]] = {
        title: {build_page(entry, role): entry for entry in screens} for title, screens in sections.items()
    }
    if not _sees_overview(role):  # whose address leads to what is theirs
        start = st.Page(_lead_to_first(role), title="Start", default=True, visibility="hidden")
        groups["Aside"][start] = None
    return groups


def linked(role: Role, groups: dict[str, dict[StreamlitPage, Screen | None]]) -> list[StreamlitPage]:
    """The pages that are linked below the navigation, which is not drawn where it has one page alone."""
    below = [groups["Aside"]] if _sees_overview(role) else [*groups.values()]
    return [page for pages in below for page, entry in pages.items() if entry and role in entry.roles]


def _sees_overview(role: Role) -> bool:
    return role in MENU["Look"][0].roles


def _lead_to_first(role: Role) -> Callable[[], None]:
    first = next(screen for screen in list_screens() if role in screen.roles)

    def open_first() -> None:
        st.switch_page(first.path)

    return open_first


def main() -> None:
    try:
        person = get_current_person()
    except (SignedOutError, EngineUnavailable) as error:
        everything = [st.Page(screen.path, **screen.about) for screen in list_screens()]
        st.navigation(everything, position="hidden")  # and none of them is run
        layout.show_signed_out(error)
        return
    role = person.role
    groups = pages_of(role)
    page = st.navigation({title: list(pages) for title, pages in groups.items()})
    dark = st.context.theme.type == "dark"
    st.logo(brand.render_wordmark(dark), size="large", icon_image=brand.render_mark(dark))
    layout.apply_frame_style()
    layout.sync_address(page)
    layout.show_people(person, linked(role, groups))
    draw_engine_banner()
    entry = next((pages[page] for pages in groups.values() if page in pages), None)
    if entry and role not in entry.roles:
        layout.show_forbidden(role, entry.about["title"], entry.roles)
        return
    page.run()
    redraw_if_asked()


main()
