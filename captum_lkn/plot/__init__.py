"""Figures of results, and picture files as inputs."""
