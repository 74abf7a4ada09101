"""File formats, one module each: how a format is detected and read into columns."""
