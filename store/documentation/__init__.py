"""Pages of docs that are drawn from code: `python -m store.documentation.…`."""
