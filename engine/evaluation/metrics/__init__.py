"""Metrics of answers: built in, a user's own in a process apart, and a language model as the judge."""
