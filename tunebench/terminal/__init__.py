"""How a command speaks to the terminal, to the browser, and to the processes that it starts."""
