"""Pennyweight inside other libraries."""
