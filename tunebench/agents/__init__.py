"""Tools of `tunebench mcp` for agents of other programs, and the form of their answers."""
