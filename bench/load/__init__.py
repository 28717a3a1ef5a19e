"""The engine under load: metrics, a million rows, fifty raters."""
