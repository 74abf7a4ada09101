"""Finished runs: compared with each other, evaluated on other texts, and measured under shift."""
