"""One module a kind of question that a worker answers while someone waits, each with `run(job)`."""
