"""Improvements: new rows, versions that keep the deal, the chain, its commands."""
