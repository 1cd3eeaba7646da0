"""What is measured over one installation: a file per subject, each with a function to figures and ratios."""
