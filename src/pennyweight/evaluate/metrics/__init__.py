"""One file a kind of metric: arrays in, plain values out."""
