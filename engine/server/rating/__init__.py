"""Commands of rating rounds: of those who make them, of raters, and what is made of ratings."""
