"""Overview, alerts, help and the documentation of the API."""

from admin.pages.system import alerts, api_docs, help, overview

PAGES = (alerts, api_docs, help, overview)
