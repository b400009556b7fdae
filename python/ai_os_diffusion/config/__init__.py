"""Settings: validated values from defaults, YAML files and the environment."""

from ai_os_diffusion.config.config import (
    Config,
    ModelConfig,
    PerformanceConfig,
    RetrievalConfig,
    Setting,
    StorageConfig,
    describe_config,
    load_config,
    misspelt_variables,
)

__all__ = [
    "Config",
    "ModelConfig",
    "PerformanceConfig",
    "RetrievalConfig",
    "Setting",
    "StorageConfig",
    "describe_config",
    "load_config",
    "misspelt_variables",
]
