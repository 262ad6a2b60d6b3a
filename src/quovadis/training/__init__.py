"""Make a model from labeled videos: recipes, and one short loop."""
