"""Pure: strengths of models, agreement and reliability of raters, planning of rounds."""
