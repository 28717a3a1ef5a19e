"""The screens of data sets."""
