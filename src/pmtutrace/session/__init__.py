"""Sessions: one recording on disk, a SQLite file each. docs/session.md describes the schema."""
