"""What happens before jax is imported, and how a command starts and ends."""
