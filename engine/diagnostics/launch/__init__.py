"""What is advised before a launch: a method, and how long it will take."""
