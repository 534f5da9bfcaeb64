"""Start and end of a command, including all that must precede the import of jax."""
