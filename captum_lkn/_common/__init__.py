"""Shared by all rooms: messages for users, warnings, rounding, checked files."""
