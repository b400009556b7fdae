"""Accelerators found without their drivers, and the state of this installation."""
