"""What bias probes and group figures come to: shares, gaps and their changes from base to tuned, with
intervals; which of them are surely worse beside all others; and the sentence that sums them up. Pure."""
