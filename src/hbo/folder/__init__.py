"""The folder of a run: what each of its files holds, read and written in one place."""
