"""Frames to optical flow: TV-L1 (own kernels), OpenCV's methods for comparison, the 8-bit codec, files, pictures."""
