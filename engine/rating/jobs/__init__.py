"""The jobs of rating rounds, each loaded by its name."""
