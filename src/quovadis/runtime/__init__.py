"""Infrastructure that is not about video: files, locks, caches, processes, downloads and terminal output.

This package has no public names.
"""
