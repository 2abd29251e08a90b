"""Notebooks to figures: what one declares, its execution, the record, comparing."""
