"""Tensor to logits: the networks of the paper, under one contract (see :mod:`quovadis.models.video_model`)."""
