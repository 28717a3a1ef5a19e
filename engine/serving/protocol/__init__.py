"""OpenAI's protocol as a backend speaks it: bodies of requests, forms of answers, errors, streams."""
