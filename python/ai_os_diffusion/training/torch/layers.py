"""Layers that learn: what is trained of each is told by name, the rest is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards.names import MAGNITUDE, SIDE_DOWN, SIDE_UP, A, B
from ai_os_diffusion.utils.errors import ModelLoadError, TrainingError

__all__ = ["LayerNorm", "Linear", "RmsNorm", "SideBlock", "Trained", "projected", "rounded"]

Tensor = Any


class Trained:
    """What of a network is trained.

    Args:
        values: tensors by name, on the device: low-rank factors of linear layers, side blocks and rows of the
            embedding, as a card names them; or weights, biases and norms in the place of the base's.

    Attributes:
        parameters: by the same names, those that layers have taken.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = values
        self.parameters: dict[str, Tensor] = {}

    def take(self, name: str, shape: list[int]) -> Tensor:
        """A parameter; None where it is not trained.

        Raises:
            TrainingError: it has another shape.
        """
        value = self._values.get(name)
        if value is None:
            return None
        if list(value.shape) != shape:
            raise TrainingError(f"{name!r} cannot be trained: expected {shape}, got {list(value.shape)}")
        self.parameters[name] = nn.Parameter(value)
        return self.parameters[name]

    def factors(self, layer: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """A [rank, inputs] and B [outputs, rank] of a layer; None and None where it has none.

        Raises:
            TrainingError: there is one of them, or it has another shape.
        """
        first, second = (self._values.get(layer["name"] + part) for part in (A, B))
        if first is None and second is None:
            return None, None
        if first is None or second is None or first.ndim != 2 or not len(first):
            raise TrainingError(
                f"{layer['name']!r} cannot be trained: expected both factors, lora_A and lora_B"
            )
        rank = len(first)
        return (
            self.take(layer["name"] + A, [rank, layer["inputs"]]),
            self.take(layer["name"] + B, [layer["outputs"], rank]),
        )

    def side(self, block: str, hidden: int) -> tuple[Tensor, Tensor]:
        """The matrices [width, hidden] and [hidden, width] behind a block; None and None where it has none.

        Raises:
            TrainingError: there is one of them, or it has another shape.
        """
        first, second = (self._values.get(block + part) for part in (SIDE_DOWN, SIDE_UP))
        if first is None and second is None:
            return None, None
        if first is None or second is None or first.ndim != 2 or not len(first):
            raise TrainingError(f"{block!r} cannot be trained: expected both matrices, side_down and side_up")
        width = len(first)
        return self.take(block + SIDE_DOWN, [width, hidden]), self.take(block + SIDE_UP, [hidden, width])

    def check_all_taken(self) -> None:
        """Refuse what no layer has taken.

        Raises:
            TrainingError: there is such a tensor.
        """
        for name in self._values:
            if name not in self.parameters:
                raise TrainingError(f"{name!r} cannot be trained: the base has nothing of that name")


class Linear(nn.Module):
    """`W x + b + scaling · B (A x)`, low-rank adaptation (arXiv:2106.09685).

    With a magnitude m it is `m / ‖W + scaling · B A‖ ⊙ (W x + scaling · B (A x)) + b`, a norm for each
    output, which is a constant to the gradient (DoRA, arXiv:2402.09353, section 4.3).

    Args:
        weights: of the base; their type is that of the products.
        layer: its name, outputs and inputs.
        trained: what is.
        scaling: of the product of its factors.
        is_beside: compute with the factors beside the frozen weights, which a small change of weights in
            brain floats needs; else they are added to the weights first: over the positions of a large batch
            one product is far less work for memory than three thin ones.
        dtype: of frozen weights, by default that of the products.
        is_rounded: round operands to brain floats, and multiply and sum in float32, as the native trainer
            does: few CPUs multiply brain floats themselves.

    Attributes:
        kept: bool[n, inputs], which inputs of the factors beside are not left out; None leaves none out.
        kept_scaling: by which those are multiplied.
    """

    def __init__(
        self,
        weights: DeviceWeights,
        layer: Mapping[str, Any],
        trained: Trained,
        scaling: float,
        *,
        is_beside: bool = False,
        dtype: Any = None,
        is_rounded: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.scaling, self.is_beside = layer["name"], scaling, is_beside
        self.outputs, self.inputs = layer["outputs"], layer["inputs"]
        self.is_rounded = is_rounded
        self.kept: Tensor = None
        self.kept_scaling = 1.0
        self.magnitude = trained.take(self.name + MAGNITUDE, [self.outputs])
        self.register_buffer("beneath", None, persistent=False)
        dtype = dtype or weights.dtype
        for part, shape in (("weight", [self.outputs, self.inputs]), ("bias", [self.outputs])):
            name = f"{self.name}.{part}"
            own = trained.take(name, shape)
            if own is None:
                frozen = weights.exact(name).to(dtype) if part == "weight" or name in weights else None
                if is_rounded and part == "weight" and self.magnitude is None:
                    frozen = rounded(frozen)
                self.register_buffer(part, frozen, persistent=False)
            else:
                self.register_parameter(part, own)
        self.a, self.b = trained.factors(layer)
        if self.magnitude is not None and self.a is None:
            raise TrainingError(
                f"{self.name!r} cannot be trained: it has a magnitude, expected both factors beside it"
            )

    def take_apart(self, alone: Tensor) -> None:
        """Keep what a card beneath adds apart from the base's own weights [outputs, inputs]."""
        merged = self.get_buffer("weight")
        self.beneath = (merged.float() - alone).to(merged.dtype)
        self.weight = alone.to(merged.dtype)

    def row_scales(self) -> Tensor:
        """float32[outputs]: the magnitude over the norms."""
        with torch.no_grad():
            whole = torch.addmm(self.weight.float(), self.b, self.a, alpha=self.scaling)
            norms = torch.linalg.vector_norm(whole, dim=1)
        return self.magnitude / norms

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs] in the type of `x`."""
        return projected(x, [self])[0]

    def whole(self, dtype: Any) -> Tensor:
        """[outputs, inputs]: the weights, with the factors that are not beside them."""
        weight = self.weight.to(dtype)
        if self.a is None or self.is_beside:
            return rounded(weight) if self.is_rounded and self.magnitude is not None else weight
        whole = torch.addmm(weight, self.b.to(dtype), self.a.to(dtype), alpha=self.scaling)
        return whole if self.magnitude is None else whole * self.row_scales().to(dtype)[:, None]

    def completed(self, x: Tensor, out: Tensor) -> Tensor:
        """`out` [..., outputs], the product of `x` with `whole`, with the bias and the factors beside."""
        is_scaled = self.magnitude is not None and self.is_beside
        if self.bias is not None and not is_scaled:
            out = out + self.bias.to(x.dtype)
        if self.a is None or not self.is_beside:
            return out
        given, scaling = x, self.scaling
        if self.kept is not None:
            x, scaling = x * self.kept, scaling * self.kept_scaling
        if self.is_rounded:
            low = F.linear(rounded(x), rounded(self.a)) * scaling
            out = out + F.linear(rounded(low), rounded(self.b))
        else:
            low = F.linear(x, self.a.to(x.dtype))
            out = out + F.linear(low, self.b.to(x.dtype)) * scaling
        return self._scaled(given, out) if is_scaled else out

    def _scaled(self, x: Tensor, out: Tensor) -> Tensor:
        """The product with weights and factors scaled, with what is not."""
        out = out * self.row_scales().to(x.dtype)
        if self.beneath is not None:
            operands = (x, self.beneath.to(x.dtype))
            out = out + F.linear(*(map(rounded, operands) if self.is_rounded else operands))
        return out if self.bias is None else out + self.bias.to(x.dtype)


def projected(x: Tensor, linears: Iterable[Linear]) -> tuple[Tensor, ...]:
    """[..., inputs] to [..., outputs] of each, in one product with their weights."""
    layers = list(linears)
    weights = [layer.whole(x.dtype) for layer in layers]
    operand = rounded(x) if layers[0].is_rounded else x
    out = F.linear(operand, weights[0] if len(weights) == 1 else torch.cat(weights))
    parts = out.split([layer.outputs for layer in layers], -1)
    return tuple(layer.completed(x, part) for part, layer in zip(parts, layers, strict=True))


def rounded(x: Tensor) -> Tensor:
    """To the nearest brain floats, as float32."""
    return x.bfloat16().float()


class RmsNorm(nn.Module):
    """Root mean square norm of float32, to the type of the products."""

    def __init__(
        self, weights: DeviceWeights, layout: Mapping[str, Any], eps: float, trained: Trained
    ) -> None:
        super().__init__()
        if layout["needs_bias"] is not None:
            raise ModelLoadError(f"norm {layout['name']!r} is a layer norm; training knows those of decoders")
        self.eps, self.dtype = eps, weights.dtype
        name = f"{layout['name']}.weight"
        own = trained.take(name, [layout["width"]])
        if own is None:
            self.register_buffer("weight", weights.exact(name), persistent=False)
        else:
            self.weight = own

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        return (F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps) * self.weight).to(self.dtype)


class SideBlock(nn.Module):
    """`x + up(gelu(down(norm(x))))`, a bottleneck adapter (arXiv:1902.00751); `x` where none is trained.

    Args:
        trained: what is.
        block: the name of that which it stands behind.
        hidden: width of the stream.
        eps: of its norm, which does not scale.
        dtype: of the products.
    """

    def __init__(self, trained: Trained, block: str, hidden: int, eps: float, dtype: Any) -> None:
        super().__init__()
        self.eps, self.dtype = eps, dtype
        self.down, self.up = trained.side(block, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """float32[..., hidden] to the same."""
        if self.down is None:
            return x
        entered = F.rms_norm(x, (x.shape[-1],), eps=self.eps).to(self.dtype)
        active = F.gelu(F.linear(entered, self.down.to(self.dtype)))
        return x + F.linear(active, self.up.to(self.dtype)).float()


class LayerNorm(nn.Module):
    """Layer norm of float32; what of it is not trained is frozen."""

    def __init__(
        self, weights: DeviceWeights, layout: Mapping[str, Any], eps: float, trained: Trained
    ) -> None:
        super().__init__()
        self.eps = eps
        for part in ("weight", "bias"):
            name = f"{layout['name']}.{part}"
            own = trained.take(name, [layout["width"]])
            if own is None:
                frozen = weights.exact(name) if name in weights else None
                self.register_buffer(part, frozen, persistent=False)
            else:
                self.register_parameter(part, own)

    def forward(self, x: Tensor) -> Tensor:
        """float32[..., width] to the same."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)
