"""Files on disk: atomic writes, locks, checksums, bounded YAML."""
