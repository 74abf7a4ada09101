"""One file per kind of metric. Functions take arrays and return plain values."""
