"""The suites: each measures, and returns a `Report`."""
