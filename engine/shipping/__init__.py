"""Models in the forms in which they leave the house, each held against the model that was evaluated.

`subject` is what leaves, `forms` write it (one file a form), `parity` reads it back in another process and
compares, `publish` gives the folder its checksums and its name. A job of kind `model_export` does all of it.
"""
