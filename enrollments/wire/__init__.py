"""What the HTTP APIs have in common: bounded bodies, answers, and the errors of the contract (1.7)."""
