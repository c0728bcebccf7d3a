"""Rows of any format in, one memory-mapped table out."""
