"""Frechet Video Distance: protocols, cards and the distance itself."""
