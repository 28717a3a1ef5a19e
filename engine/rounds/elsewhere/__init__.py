"""Ratings that were given elsewhere: what the columns of a file mean, and what its rows say."""
