"""The screen of data sets: the list, and one set with a tab for each folder here."""
