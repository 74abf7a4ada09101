"""Which classifiers a server has: folders scanned, loaded lean, held in memory, served by one engine."""
