"""A model of the freshness protocol, and the program that visits all of its states."""
