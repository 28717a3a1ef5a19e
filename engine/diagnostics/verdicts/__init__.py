"""The verdict of a whole run, and the alarms that it raises while it trains."""
