"""The screens. Each file is one page; what several share is in `pages.components`."""
