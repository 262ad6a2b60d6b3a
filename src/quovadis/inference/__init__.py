"""Recognition, feature extraction, timelines and live recognition."""
