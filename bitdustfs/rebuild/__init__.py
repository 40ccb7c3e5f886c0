"""Watching, auditing and rebuilding the fragments of a vault."""
