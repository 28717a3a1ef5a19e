"""What is kept, and how it is asked for: configs, the home folder, job folders and the experiment store."""
