"""Models that answer over OpenAI's protocol: the processes that make answers, and what stands before them."""
