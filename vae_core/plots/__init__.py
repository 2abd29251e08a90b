"""Arrays to figures; no model is seen here."""
