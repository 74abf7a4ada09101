"""More than one process or machine. Only this folder imports Ray."""
