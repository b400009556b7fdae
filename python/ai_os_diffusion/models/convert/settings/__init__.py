"""What the configurations beside foreign weights say, and whether it is known here."""
