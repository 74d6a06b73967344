"""What a person meets: configuration, command line, progress, exit codes."""
