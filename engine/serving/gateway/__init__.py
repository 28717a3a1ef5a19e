"""The gateway of one endpoint, a process of its own: it knows its folder alone and goes on without the
engine."""
