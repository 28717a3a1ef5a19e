"""The gateway of an endpoint, over a backend that is played."""
