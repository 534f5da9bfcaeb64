"""Devices as a mesh, and several processes as one run."""
