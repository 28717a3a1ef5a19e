"""What is kept, how it is asked for, and who may ask."""
