"""The screen of simulated truth: how often intervals hold it, and tests cry wolf."""
