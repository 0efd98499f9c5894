"""Searching the numbers of channels of each layer (AutoSlim, Yu and Huang, 2019)."""
