"""Entries as files: what an import reads and an export writes, line by line. See docs/import.md."""
