"""The screens, one folder each with its page in it; what all of them use is in `pages.shared`."""
