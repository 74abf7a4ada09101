"""Adapter methods: the protocol and one file a method."""
