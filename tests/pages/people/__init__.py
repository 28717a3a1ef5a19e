"""Screens of people: the activity, comments, one's own, and two who change the same."""
