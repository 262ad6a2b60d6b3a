"""Labeled videos: folders, tables, the embedded ``motions``; and the loader that makes training clips of them."""
