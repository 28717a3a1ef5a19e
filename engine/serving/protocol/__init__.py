"""The OpenAI API of a backend: request bodies, response forms, errors and streams."""
