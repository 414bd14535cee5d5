"""Path MTU exceptions: which there are, in every network namespace, and how they change."""
