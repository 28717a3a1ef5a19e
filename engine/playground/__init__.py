"""The process that talks: models held ready, and answers from them a token at a time."""
