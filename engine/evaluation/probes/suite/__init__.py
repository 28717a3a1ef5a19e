"""Suite for measuring forgetting: items and prose written for Tunebench from plain facts.

items/CATEGORY.tsv has a header, then one line per item: question, answer and distractors, separated by tabs.
The line number is the item's ID (geography/001 is the first), so new items go at the end. prose/REGISTER.txt
contains passages, each after a line `== NAME: topic`. The reader is `suite_texts`. Any change of a text
changes the suite's fingerprint, and results with different fingerprints are never combined.
"""
