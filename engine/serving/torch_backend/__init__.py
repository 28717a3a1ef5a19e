"""Our own backend: a torch model whose answers are made together, a token at a time."""
