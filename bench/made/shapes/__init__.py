"""Samples as real ones are, with the population value that they were drawn from: one file a topic.

Written from what real data look like, not from what an interval expects, and never changed to suit one. Each
shape draws from the generator that it is given and from nothing else.
"""

SIZES = (10, 20, 30, 67, 100, 300, 500)  # rows of a held-out set, from a first try to a good one
