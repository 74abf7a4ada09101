"""Fitting the trainable part."""
