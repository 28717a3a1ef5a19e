"""Models held against each other or a limit: comparisons, gates, exports, bias, judges."""
