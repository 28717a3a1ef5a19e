"""The metrics as local modules of `evaluate`, a file a family: evaluate.load("PATH/bleu.py") needs no hub."""
