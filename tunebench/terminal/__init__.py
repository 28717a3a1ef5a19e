"""Interface of commands to the terminal, to the browser, and to the processes that they start."""
