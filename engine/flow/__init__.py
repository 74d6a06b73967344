"""Bounded streams between a source and a repository."""
