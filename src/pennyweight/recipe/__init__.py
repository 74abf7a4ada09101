"""The recipe: its schema, loading and merging, conflicts between settings, and the plan it asks for."""
