"""Documents that are zip archives of XML."""
