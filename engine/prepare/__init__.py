"""From a data set and a config to the rows that are trained, validated and judged on."""
