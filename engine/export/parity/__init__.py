"""Whether an export answers as the model that was evaluated.

`reference` has the model answer in the job's process and writes down what it said; `python -m
engine.export.parity FOLDER` reads the export in a process of its own, by the engine of its form, and
compares; `parity_report` says what came of it.
"""
