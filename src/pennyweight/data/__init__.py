"""Labelled texts: sources are read to columns, columns built into tables, tables cleaned, labelled, split, batched."""
