"""What screens and command line say and draw, without a browser."""
