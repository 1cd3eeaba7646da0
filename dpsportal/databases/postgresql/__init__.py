"""PostgreSQL as Django has it, with plans that are kept where the server itself answers."""
