"""Tokenization of rows with loss masks, chat templates, and function calls."""
