"""Labels and probabilities for new texts, and the forms they are written in."""
