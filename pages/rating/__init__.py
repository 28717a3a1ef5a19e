"""Where people rate: the component in which they do, and the routes by which it reaches the engine."""
