"""What the pictures of the docs show: the work that the app does for them, the people, and the camera."""
