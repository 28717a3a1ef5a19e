"""Conversion from columns of a source to rows of a data set: detect the format and map the columns."""
