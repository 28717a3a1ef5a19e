"""Shared parts of all screens: session, queries, charts, figures and wording."""
