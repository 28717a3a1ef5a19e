"""The project itself: floors, words, what is imported, what may be added."""
