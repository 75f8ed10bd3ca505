"""The search box of the runs: its syntax and what it means."""
