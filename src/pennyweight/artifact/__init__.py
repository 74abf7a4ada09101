"""The saved classifier: its layout, manifest, validation and model card."""
