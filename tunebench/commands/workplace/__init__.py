"""Who works here and what they did, and the programs beside this one: agents and tools."""
