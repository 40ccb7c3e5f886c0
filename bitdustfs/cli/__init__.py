"""The commands `bitdust` and `mount.bitdust`."""
