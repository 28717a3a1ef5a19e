"""Models answering over OpenAI's protocol: the processes that make answers, and what stands in front of them."""
