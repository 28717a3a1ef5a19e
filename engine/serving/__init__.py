"""Models behind OpenAI's protocol: the gateway of an endpoint, and the processes that answer behind it."""
