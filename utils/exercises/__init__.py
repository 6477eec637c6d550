"""Exercises with a check that names the mistake."""
