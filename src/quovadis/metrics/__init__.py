"""Numbers from arrays of features: the Frechet distance."""
