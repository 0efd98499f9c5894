"""The ablations of the paper, as studies of a few arms each."""
