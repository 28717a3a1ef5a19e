"""Where models come from, how a method changes them, what they take, and how they are kept."""
