"""Losses of rows, and the difficulty groups cut from them."""
