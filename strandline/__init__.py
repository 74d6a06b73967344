"""strandline: deduplicated, sealed, incremental backups of large databases."""
