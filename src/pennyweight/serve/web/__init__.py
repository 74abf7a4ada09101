"""The web application: routes, authentication, limits, logs and metrics, and the process around them."""
