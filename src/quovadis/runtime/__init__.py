"""Infrastructure that is not about video: files, locks, caches, processes, downloads, terminal output."""
