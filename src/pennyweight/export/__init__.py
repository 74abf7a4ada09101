"""A saved classifier in the formats of other libraries, and on the hub."""
