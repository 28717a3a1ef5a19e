"""Charts of metrics of runs as a component: drawn, zoomed, smoothed and saved without a rerun of the page."""
