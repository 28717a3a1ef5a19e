"""The Rows tab of a data set: filters, table, single rows, and column summaries."""
