"""The frozen encoder, its adapter and its head."""
