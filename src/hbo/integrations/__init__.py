"""HBO in other people's trainers: a file for each whose internals must be met."""
