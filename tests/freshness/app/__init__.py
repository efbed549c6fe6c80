"""A small Django application whose answers are cached by whatever is under test."""
