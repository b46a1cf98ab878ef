"""Text from a model: one engine a file, cached by content, seeded, the same whatever else is asked for."""
