"""Every error this library raises.

DiffusionError
├── ConfigurationError (ValueError)     a setting is unknown or out of range
├── QuestionError (ValueError)          a question is no text, holds no word, or is too long
├── ModelLoadError                      a model folder, file or name cannot be loaded
│   ├── ModelNotFoundError              there is no such model, or a file of it is missing
│   └── ModelDamagedError               a file that describes a model cannot be read
├── InferenceError                      a forward pass or its input is at fault
│   ├── TokenizerError                  text or a tokenizer file cannot be used
│   │   └── TokenizerFileError          a tokenizer file is damaged, or not one
│   ├── WeightError                     a weight file is damaged, unknown or inconsistent
│   ├── ConstraintError                 no text that was drawn is what it has to be
│   ├── DeviceError                     a device was asked for that is not there
│   └── ShapeError (ValueError)         arrays disagree on an axis
├── IngestError                         a document cannot be read
├── StorageError                        the memory store cannot do what was asked
│   ├── StoreCorruptedError             bytes on disk fail their checksum
│   ├── StoreLockedError                another process is writing
│   ├── MemoryNotFoundError (KeyError)  there is no memory of that id
│   ├── FilterError (ValueError)         a filter cannot be understood
│   └── DimensionError (ValueError)     a vector does not fit the store
├── EvolutionError                      learning, or what was learned, is at fault
│   ├── CardError                       a card is damaged, or of another base than the model
│   ├── TrainingError                   what is trained on, or a run of training, is at fault
│   ├── SkillRejectedError              what was learned does not help, or harms elsewhere
│   └── SkillsLockedError               another process is learning
└── SamplingError                       sampling settings contradict the model or each other

A message says what happened, what was expected, what was found, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CardError",
    "ConfigurationError",
    "ConstraintError",
    "DeviceError",
    "DiffusionError",
    "DimensionError",
    "EvolutionError",
    "FilterError",
    "InferenceError",
    "IngestError",
    "MemoryNotFoundError",
    "ModelDamagedError",
    "ModelLoadError",
    "ModelNotFoundError",
    "QuestionError",
    "SamplingError",
    "ShapeError",
    "SkillRejectedError",
    "SkillsLockedError",
    "StorageError",
    "StoreCorruptedError",
    "StoreLockedError",
    "TokenizerError",
    "TokenizerFileError",
    "TrainingError",
    "WeightError",
]


class DiffusionError(Exception):
    """Base of every error of this library."""


class ConfigurationError(DiffusionError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class QuestionError(DiffusionError, ValueError):
    """A question is no text, holds no word, or is longer than what compares it takes."""


class ModelLoadError(DiffusionError):
    """A model folder, file or name cannot be loaded."""


class ModelNotFoundError(ModelLoadError):
    """There is no model of this name or at this place, or one of its files is missing."""


class ModelDamagedError(ModelLoadError):
    """A file that describes a model is not what its format says."""


class InferenceError(DiffusionError):
    """A forward pass, or what it was given, is at fault."""


class TokenizerError(InferenceError):
    """A text cannot be encoded, or a tokenizer file cannot be used."""


class TokenizerFileError(TokenizerError):
    """A tokenizer file is damaged, or is none."""


class WeightError(InferenceError):
    """A weight file is damaged, of an unknown version, or inconsistent."""


class ConstraintError(InferenceError):
    """No text that was drawn satisfies all constraints.

    Attributes:
        text: the one that violates fewest.
        violations: what it violates.
        attempts: how many were drawn.
    """

    def __init__(self, text: str, violations: Sequence[str], attempts: int) -> None:
        """Take what was drawn."""
        self.text, self.violations, self.attempts = text, list(violations), attempts
        said = "; ".join(self.violations)
        super().__init__(
            f"none of {attempts} texts satisfies the constraints, the nearest one: {said}. Allow more tokens "
            "or attempts, ask for it in the prompt, or ask for less; the error holds the text"
        )


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


class MemoryNotFoundError(StorageError, KeyError):
    """The store holds no memory of that id."""

    # A KeyError would show its message in quotes.
    __str__ = Exception.__str__


class FilterError(StorageError, ValueError):
    """A filter has an operator or a value that no filter has."""


class DimensionError(StorageError, ValueError):
    """A vector has the wrong length, or holds NaN, infinity or nothing but zeros."""


class SamplingError(DiffusionError):
    """Sampling settings contradict the model or each other."""


class EvolutionError(DiffusionError):
    """Learning, or what was learned, is at fault."""


class CardError(EvolutionError):
    """A card is damaged, contradicts itself, or belongs to another base."""


class TrainingError(EvolutionError):
    """An example, or a run of training that was to go on, is not as it has to be."""


class SkillRejectedError(EvolutionError):
    """What was learned does not help, or harms elsewhere, and was not kept."""


class SkillsLockedError(EvolutionError):
    """Another process changes the skills."""
