"""Search of runs: filters, query plan, pages, related runs."""
