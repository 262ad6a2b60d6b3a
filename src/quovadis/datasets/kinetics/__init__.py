"""Kinetics: annotations, downloads and class names."""
