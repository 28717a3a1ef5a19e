"""Whether what an endpoint is asked and answers is still like its reference, asked as often as one likes."""
