"""What people wait for in a real browser."""
