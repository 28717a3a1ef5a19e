"""Raters of known noise, bias and reliability over systems of known strength: one file a topic, each with its
`RATES` (`bench/truths`), and the speed of what is resampled. They draw from the generator that they are given
and from nothing else."""
