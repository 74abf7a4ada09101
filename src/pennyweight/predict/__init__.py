"""Labels and probabilities for new texts, and the ways to write them."""
