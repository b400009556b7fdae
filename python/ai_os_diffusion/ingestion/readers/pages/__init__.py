"""Documents of printed pages."""
