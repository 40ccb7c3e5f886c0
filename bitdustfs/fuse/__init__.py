"""pyfuse3 requests to volume calls and back. Translates; decides nothing."""
