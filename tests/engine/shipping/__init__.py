"""Registered models in the worker."""
