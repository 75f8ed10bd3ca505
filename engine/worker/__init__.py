"""The consumer process: its parent, workers, scheduler and recorder."""
