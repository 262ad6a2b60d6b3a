"""Figures from videos: protocols as data, and what a model reaches by them."""
