"""`python -m pennyweight`."""

from .cli.app import main

main()
