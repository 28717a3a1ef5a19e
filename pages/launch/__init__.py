"""The screen that launches a run: form, advice, preview."""
