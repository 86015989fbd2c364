"""Ours beside the peers, measured in one process run and told as ratios: `python -m benchmarks`."""
