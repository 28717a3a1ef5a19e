"""Models compared with each other or with a limit: comparisons, gates, exports, bias, judges."""
