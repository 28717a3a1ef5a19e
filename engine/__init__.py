"""The background process and its workers: data preparation, training, evaluation and diagnostics."""
