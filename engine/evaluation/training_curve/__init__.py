"""Pure: what the losses of a run say while it trains and afterwards."""
