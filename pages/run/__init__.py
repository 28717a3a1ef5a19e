"""The screen of one run. What a tab needs alone lies in that tab's folder."""
