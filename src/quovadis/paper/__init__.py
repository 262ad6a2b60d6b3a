"""The published tables and their reproduction."""
