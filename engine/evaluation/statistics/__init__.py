"""Pure: interval estimates and tests; tables and arrays in, figures out."""
