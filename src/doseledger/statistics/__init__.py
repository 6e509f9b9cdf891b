"""Statistics of regions, uncertainty, radiobiology and the course of treatment: pure functions."""
