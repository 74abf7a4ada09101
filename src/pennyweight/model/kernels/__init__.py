"""The operations that differ between processors, chosen once when the model is built."""
