"""Evidence: what did learning cost? Gain against forgetting over all finished runs.

The runs worth having lie on the front: whoever wants more gain than they have must forget more.
"""

from __future__ import annotations

import streamlit as st

from pages.compare.tradeoff.cost_view import draw_costs
from pages.shared.session import guarded


def main() -> None:
    st.title("What did learning cost?", anchor=False)
    with guarded():
        draw_costs()


main()
