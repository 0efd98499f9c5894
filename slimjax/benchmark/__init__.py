"""What `scripts/benchmark.py` measures: training, inference, and a rival loop."""
