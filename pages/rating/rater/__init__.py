"""The rater's view: rounds open to them, and the rating desk.

It is read through commands as that person and never names a model. Nothing here uses the shared queries,
which reveal who wrote which answer.
"""
