"""Serving models: the gateway of an endpoint, and what answers behind it."""
