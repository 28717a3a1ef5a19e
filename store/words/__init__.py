"""Entries of the catalog and documents of `config` in plain words, for screens, cards and command line."""
