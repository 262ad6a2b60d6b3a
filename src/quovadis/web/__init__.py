"""The page of ``quovadis serve``: a video in, the actions, the time line, the flow and the features out."""
