"""Baselines and the comparison of a classifier with them."""
