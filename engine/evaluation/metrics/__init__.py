"""Answer metrics: built-in ones, custom ones in a separate process, and a language model as judge."""
