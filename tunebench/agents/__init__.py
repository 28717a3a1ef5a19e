"""What agents of other programs may read and do: the tools of `tunebench mcp`, and how they answer."""
