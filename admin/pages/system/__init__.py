"""Overview, alerts, help and the documentation of the API."""
