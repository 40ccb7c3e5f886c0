"""Pure code: bytes in, values out. No trio, no socket, no file, no clock."""
