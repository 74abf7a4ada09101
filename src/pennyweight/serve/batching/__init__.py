"""Many requests computed together."""
