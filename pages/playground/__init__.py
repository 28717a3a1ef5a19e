"""The playground, where people chat with several models side by side."""
