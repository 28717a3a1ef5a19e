"""Compare: runs side by side, what differs, and the trade-off of gain, forgetting and cost."""
