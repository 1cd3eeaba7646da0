"""SQLite as Django has it, with statements that are put into SQLite's words once."""
