"""Benchmarks: figures as ratios against a named peer in the same run, since machines are shared and noisy."""
