"""Jobs of rating rounds, loaded by name."""
