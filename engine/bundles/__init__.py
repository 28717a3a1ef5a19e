"""A run as one file: written, read where anybody may have written it, its rows and base model looked up."""
