"""Encoders: the protocol, the fast ones (one file a family) and the transformers reference."""
