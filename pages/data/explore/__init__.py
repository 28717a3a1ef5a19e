"""The tab that shows the rows of a data set: filters, the table, one row, and summaries of columns."""
