"""What is said in the playground: the stream, and conversations as they are kept."""
