"""Models: one published system per file, found by import path and registered nowhere."""
