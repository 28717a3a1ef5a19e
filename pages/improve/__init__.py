"""Improvements of a registered model: begun, followed link by link, decided, and put on a schedule."""
