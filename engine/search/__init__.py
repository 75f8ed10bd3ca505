"""Finds runs: filters, query plan, pages, related runs."""
