"""The kernel: its types, its symbols, what it can do, and our programs in it."""
