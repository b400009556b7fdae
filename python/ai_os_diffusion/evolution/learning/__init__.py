"""What goes on while a skill is learned."""
