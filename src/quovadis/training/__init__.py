"""Make a model from labelled videos: recipes, and one short loop."""
