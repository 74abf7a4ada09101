"""Files on disk: atomic writes, locks, checksums, and reading what cannot be trusted."""
