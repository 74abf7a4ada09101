"""The routes, one file per subject; each adds its own to the application."""
