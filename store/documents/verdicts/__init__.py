"""What a run came to, part by part."""
