"""Slimmable neural networks in JAX: one set of weights, runnable at several widths."""
