"""SQL as functions of anything with `query(sql, params)`. Here lie those of the whole store (jobs, metrics,
alerts, settings) and how events get into it; a noun of one topic lies in that topic's folder.
"""
