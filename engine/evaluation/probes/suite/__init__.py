"""What Tunebench measures forgetting with: items and prose written for it, from plain facts.

items/CATEGORY.tsv has a header, then a line an item: question, answer and distractors, parted by tabs. The
number of the line is the item's id (geography/001 is the first), so a new item goes to the end.
prose/REGISTER.txt has passages, each after a line `== NAME: topic`. The reader is `suite_texts`. Any change
of a text changes the suite's fingerprint, and results of two fingerprints are never put together.
"""
