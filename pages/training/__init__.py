"""The launch page: form, preview and method advice."""
