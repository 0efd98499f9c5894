"""Parameters and checkpoints of other libraries."""
