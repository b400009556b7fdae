"""Every error this library raises.

DiffusionError
├── ConfigurationError (ValueError)     a setting is unknown or out of range
├── ModelLoadError                      a model folder, file or name cannot be loaded
├── InferenceError                      a forward pass or its input is at fault
│   ├── TokenizerError                  text or a tokenizer file cannot be used
│   ├── WeightError                     a weight file is damaged, unknown or inconsistent
│   ├── DeviceError                     a device was asked for that is not there
│   └── ShapeError (ValueError)         arrays disagree on an axis
├── IngestError                         a document cannot be read
├── StorageError                        the memory store cannot do what was asked
│   ├── StoreCorruptedError             bytes on disk fail their checksum
│   ├── StoreLockedError                another process is writing
│   └── DimensionError (ValueError)     a vector does not fit the store
└── SamplingError                       sampling settings contradict the model or each other

A message says what happened, what was expected, what was found, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "DeviceError",
    "DiffusionError",
    "DimensionError",
    "InferenceError",
    "IngestError",
    "ModelLoadError",
    "SamplingError",
    "ShapeError",
    "StorageError",
    "StoreCorruptedError",
    "StoreLockedError",
    "TokenizerError",
    "WeightError",
]


class DiffusionError(Exception):
    """Base of every error of this library."""


class ConfigurationError(DiffusionError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class ModelLoadError(DiffusionError):
    """A model folder, file or name cannot be loaded."""


class InferenceError(DiffusionError):
    """A forward pass, or what it was given, is at fault."""


class TokenizerError(InferenceError):
    """A text cannot be encoded, or a tokenizer file cannot be used."""


class WeightError(InferenceError):
    """A weight file is damaged, of an unknown version, or inconsistent."""


class DeviceError(InferenceError):
    """A device was asked for that this machine does not offer."""


class ShapeError(InferenceError, ValueError):
    """Arrays disagree on an axis."""


class IngestError(DiffusionError):
    """A document cannot be read."""


class StorageError(DiffusionError):
    """The memory store cannot do what was asked."""


class StoreCorruptedError(StorageError):
    """Bytes on disk fail their checksum or contradict each other."""


class StoreLockedError(StorageError):
    """Another process holds the store for writing."""


class DimensionError(StorageError, ValueError):
    """A vector has the wrong length, or holds NaN, infinity or nothing but zeros."""


class SamplingError(DiffusionError):
    """Sampling settings contradict the model or each other."""
