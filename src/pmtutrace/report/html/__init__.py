"""A report as one page that asks nobody for anything, and in which no name is markup."""
