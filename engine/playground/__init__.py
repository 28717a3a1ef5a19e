"""The playground: conversations, and a process that keeps models loaded and streams their answers."""
