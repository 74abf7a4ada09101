"""`python -m pennyweight`."""

from .cli import main

main()
