"""The broker on Redis 6.2+ or Valkey."""
