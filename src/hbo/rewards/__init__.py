"""What the actors learn from, measured on the model as it stands."""
