"""The playground: a process that holds models ready and answers a token at a time, and its conversations."""
