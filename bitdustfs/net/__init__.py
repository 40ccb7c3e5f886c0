"""Suppliers and the ways to them: interface, wire protocol, TLS streams, server, shelf, register, DHT."""
