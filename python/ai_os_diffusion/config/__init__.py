"""Settings: validated values from defaults, YAML files and the environment."""
