"""What a model is asked in order to judge it: evaluations, rating rounds, bias checks, transfer, talk."""
