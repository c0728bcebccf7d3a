"""A run folder as a page."""
