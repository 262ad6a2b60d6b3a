"""The names of published classes, in the order of the published logits."""
