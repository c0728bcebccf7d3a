"""The algorithm on plain arrays: no torch, no files, no network."""
