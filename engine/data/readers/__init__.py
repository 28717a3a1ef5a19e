"""Files and other sources, row by row as they are written. What a column means is decided in `conversion`."""
