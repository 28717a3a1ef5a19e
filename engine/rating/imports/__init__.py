"""Ratings that people gave elsewhere: their columns, their votes, and rounds made of them."""
