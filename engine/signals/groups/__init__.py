"""One module a group of signals, as `engine.signals.group` describes it, and how they are measured."""
