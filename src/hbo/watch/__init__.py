"""A run while it goes on: in the terminal, as plain lines, as a page that refreshes itself. Reads, and never writes."""
