"""The routes, one file a subject; each adds its own to the application."""
