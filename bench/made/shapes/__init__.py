"""Realistic samples with the population value that they were drawn from: one file per topic.

Modelled on real data, not on the assumptions of an interval, and never changed to suit one. Each shape
draws only from the generator that it is given.
"""

SIZES = (10, 20, 30, 67, 100, 300, 500)  # rows of a held-out set, from a first try to a good size
