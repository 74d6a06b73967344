"""One file, one operation: gather, plan, carry out."""
