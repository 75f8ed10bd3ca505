"""Alert watcher, and alerts by webhook and mail."""
