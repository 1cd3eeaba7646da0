"""What devices call: registration over HTTPS, as unmodified clients expect it."""
