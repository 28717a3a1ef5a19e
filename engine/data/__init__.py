"""From foreign files to rows of a data set, and from those to parts. One folder a step."""
