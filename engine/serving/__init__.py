"""Models behind OpenAI's protocol: the gateway of an endpoint, and the processes that answer behind it."""
"""Models that answer over OpenAI's protocol: the processes that make answers, and what stands before them."""
