"""Overview, alerts, help and the documentation of the API."""

# Importing a module registers its pages on the blueprint.
from admin.pages.system import alerts, api_docs, help, overview  # noqa: F401
