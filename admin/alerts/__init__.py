"""Watches, and sends alerts by webhook and mail."""
