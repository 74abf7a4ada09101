"""Baselines that a trained classifier has to beat, and the comparison with them."""
