"""Recurrent layers over sequences: cells, the scan that runs them, and layers made of both."""
