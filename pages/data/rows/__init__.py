"""What all tabs of a data set share: the filter, the draft of a recipe, and their reads."""
