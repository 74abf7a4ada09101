"""One file a file format: how it is told, what its content means, and how it comes to columns."""
