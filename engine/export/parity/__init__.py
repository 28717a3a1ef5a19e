"""The parity check: compare an export's responses with those of the evaluated model.

`reference` runs the model in the job's process and stores its output; `python -m engine.export.parity FOLDER`
reads the export in a separate process, with the engine of its format, and compares; `parity_report` builds
the report.
"""
