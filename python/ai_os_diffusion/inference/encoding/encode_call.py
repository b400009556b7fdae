"""The type of `ArrowEngine.encode`, for the methods that take the same arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

from numpy.typing import NDArray

from ai_os_diffusion.inference.encoding.encode_options import EncodeOptions

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

__all__ = ["EncodeCall", "typed_as_encode"]


class EncodeCall(Protocol):
    """What is returned follows from where the caller wants it."""

    @overload
    def __call__(
        self,
        sentences: str | Iterable[str],
        batch_size: int | None = ...,
        show_progress: bool = ...,
        normalize: bool | None = ...,
        *,
        convert_to_tensor: Literal[True],
        **options: Unpack[EncodeOptions],
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        sentences: Iterable[str],
        batch_size: int | None = ...,
        show_progress: bool = ...,
        normalize: bool | None = ...,
        *,
        convert_to_numpy: Literal[False],
        convert_to_tensor: Literal[False] = ...,
        **options: Unpack[EncodeOptions],
    ) -> list[NDArray[Any]]: ...

    @overload
    def __call__(
        self,
        sentences: str | Iterable[str],
        batch_size: int | None = ...,
        show_progress: bool = ...,
        normalize: bool | None = ...,
        *,
        convert_to_numpy: Literal[True] = ...,
        convert_to_tensor: Literal[False] = ...,
        **options: Unpack[EncodeOptions],
    ) -> NDArray[Any]: ...


class _EncodeMethod(Protocol):
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> EncodeCall: ...


def typed_as_encode(method: Callable[..., Any]) -> _EncodeMethod:
    """Give a method the signature of `encode` in the eyes of a type checker; it is returned as it is."""
    return cast(_EncodeMethod, method)
