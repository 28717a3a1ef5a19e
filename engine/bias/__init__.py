"""Bias probes: what base and tuned model are asked (the built-in pairs, users' files), and what they make
of it."""
