"""Overview, alerts, help and the documentation of the API."""

# Each puts its pages on the blueprint by being imported.
from admin.pages.system import alerts, api_docs, help, overview  # noqa: F401
