"""A card in the making, by torch: on GPUs, and as the reference of the native trainer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from ai_os_diffusion import _native
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards.names import MAGNITUDE, ROWS, SIDE_DOWN, SIDE_UP, A, B
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.torch.attention import Attention
from ai_os_diffusion.training.torch.dropout import kept_inputs
from ai_os_diffusion.training.torch.encoder import TrainedEncoder
from ai_os_diffusion.training.torch.layers import Linear
from ai_os_diffusion.training.torch.merged_weights import MergedWeights
from ai_os_diffusion.training.torch.network import TrainedDecoder
from ai_os_diffusion.training.torch.skills.captured_passes import CapturedPasses
from ai_os_diffusion.training.torch.skills.card_batch import Batch, Counted, Share, check_batch, padded
from ai_os_diffusion.training.torch.skills.card_loss import HEAD_ROWS, CardLoss
from ai_os_diffusion.training.torch.skills.flat_adamw import FlatAdamW, Moments
from ai_os_diffusion.utils.errors import DeviceError, TrainingError

if TYPE_CHECKING:
    from ai_os_diffusion.training.torch.team import Team

__all__ = ["CardTrainer"]

Tensor = Any
Ids = NDArray[np.int32]
Floats = NDArray[np.float32]

_PARTS = ("ids", "positions", "level", "noisy", "document")


class CardTrainer:
    """What `_native.Trainer` is, with the same methods, computed by torch.

    Beyond factors, norms and rows of the embedding, `parameters` may name weights and biases of a decoder:
    they are trained in the place of the base's.

    Losses are float32[] on the device, so that no pass waits for it; a step waits once. Gradients and moments
    lie behind each other in one array of float32 each. On a GPU the passes of a step are filled up to few
    lengths and captured: a small model's are thousands of kernels that end sooner than they are launched.

    Args:
        weights: of the base.
        metadata_json: of the base.
        parameters: by name, where learning begins.
        scaling: of the products of factors.
        row_ids: tokens whose rows of the embedding are trained.
        dropout: part of the inputs of factors that is left out, as the native trainer leaves it out.
        num_threads: on a CPU; 0 takes as many as torch does.
        brain_floats: products with the base's weights, with factors and of attention are of operands rounded
            to bfloat16. On a GPU their results are bfloat16 too, but the head is of float32; so
            are always norms, and what goes from block to block.
        beneath: a card, its scaling and the tokens of its rows, which belongs to what the model itself says.
        device: "cpu" or "cuda".
        team: processes that take the same calls, each of which computes its share of every batch; gradients
            are added up at a step.

    Raises:
        DeviceError: the device is not there.
        ModelLoadError: the base is of a family that training does not know.
        TrainingError: the base has nothing of that name, or of another shape.
    """

    def __init__(
        self,
        weights: _native.WeightFile | Mapping[str, Floats],
        metadata_json: str,
        parameters: Mapping[str, Floats],
        *,
        scaling: float,
        row_ids: Sequence[int] = (),
        dropout: float = 0.0,
        num_threads: int = 0,
        brain_floats: bool = False,
        beneath: tuple[_native.WeightFile, float, Sequence[int]] | None = None,
        device: str = "cpu",
        team: Team | None = None,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("device 'cuda' was asked for, and torch sees no GPU; expected one, or 'cpu'")
        if not 0 <= dropout < 1:
            raise TrainingError(f"dropout is {dropout}, expected at least 0 and below 1")
        self._device, self._team = torch.device(device) if team is None else team.device, team
        if device == "cuda":
            # What cuBLAS needs to give the same numbers each time; read when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.set_float32_matmul_precision("high" if brain_floats else "highest")
        elif num_threads:
            torch.set_num_threads(num_threads)
        config = ModelMetadata.from_dict(json.loads(metadata_json))
        self._window, self._is_decoder = config.max_position_embeddings, config.is_decoder
        self._weights = DeviceWeights(
            weights if beneath is None else MergedWeights(weights, *beneath),
            self._device,
            torch.bfloat16 if brain_floats and device == "cuda" else torch.float32,
        )
        self._optimizer = FlatAdamW(parameters, self._device)
        values, self._row_ids = self._optimizer.values, list(row_ids)
        how: dict[str, Any] = {"scaling": scaling, "is_rounded": brain_floats and device == "cpu"}
        made: Any = (
            TrainedDecoder(self._weights, config, values, tuple(row_ids), is_beside=True, **how)
            if self._is_decoder
            else TrainedEncoder(self._weights, config, values, **how)
        )
        self._network = made
        if beneath is not None:
            alone = DeviceWeights(weights, self._device, torch.float32)
            for layer in (one for one in _linears(made) if one.magnitude is not None):
                layer.take_apart(alone.exact(f"{layer.name}.weight"))
        self._optimizer.bind(made.trained())
        self._learned = list(made.trained().values())
        self._passes = CapturedPasses(self._forth_and_back, self._device)
        self._layers = _by_width(made, self._device) if dropout else []
        self._attention = Attention(is_blocked=False, is_rounded=how["is_rounded"])
        self._dropout = dropout
        self._vocab, self._width = made.embedding.shape
        self._untouched: dict[str, Tensor] | None = None
        # What makes the base's logits, where ours is trained.
        is_own = self._is_decoder and made.scores_name in parameters
        self._loss = CardLoss(made, self._weights.exact(made.scores_name) if is_own else None)

    @property
    def steps(self) -> int:
        """That were taken."""
        return self._optimizer.steps

    def accumulate(
        self,
        batch: Batch,
        weights: Floats,
        *,
        labels: Ids | None = None,
        base: Floats | None = None,
        first_row: int = 0,
        seed: int = 0,
    ) -> Any:
        """Add up gradients of weighted losses; their sum, float32[].

        Args:
            batch: what is computed together.
            weights: float32[n]; positions that count 0 are not looked at.
            labels: int32[n]: the loss is their cross-entropy.
            base: float32[positions that count, width], final states of the model itself: the loss is its
                divergence from what is said now, KL(base ‖ ours).
            first_row: place of the batch in the step, of which dropout is a function, as of `seed`.
            seed: of the step.

        Raises:
            TrainingError: the batch is not as it has to be.
        """
        own, goal = self._goal(batch, weights, labels, base)
        return self._accumulated(own, (goal.rows, goal.wanted, goal.weights), first_row, seed)

    @torch.no_grad()
    def measure(
        self, batch: Batch, weights: Floats, *, labels: Ids | None = None, base: Floats | None = None
    ) -> tuple[float, int]:
        """The sum of weighted losses, and how many positions would write their label."""
        own, goal = self._goal(batch, weights, labels, base)
        rows, wanted, counted = map(self._sent, (goal.rows, goal.wanted, goal.weights))
        found = torch.zeros(2, dtype=torch.float64, device=self._device)
        if len(rows):
            states = self._states(self._stacked(own.batch))[rows]
            found[0] += self._loss(states, wanted, counted)
            if base is None:
                for part, labelled in zip(states.split(HEAD_ROWS), wanted.split(HEAD_ROWS), strict=True):
                    found[1] += (self._network.logits(part).argmax(-1) == labelled).sum()
        loss, right = self._of_all(found).tolist()
        return loss, int(right)

    def accumulate_states(self, batch: Batch, gradient: Floats, *, first_row: int = 0, seed: int = 0) -> Any:
        """Add up gradients of a loss that changes by gradient [n, width] with the final states.

        Returns:
            The states times that gradient, float32[].
        """
        own = self._share(batch, gradients=gradient)
        if gradient.shape[1:] != (self._width,):
            raise TrainingError(f"batch: expected gradients of {self._width} numbers")
        rows = np.flatnonzero(own.is_own)
        return self._accumulated(own, (rows, gradient[own.kept[rows]]), first_row, seed)

    @torch.no_grad()
    def states(self, batch: Batch, *, first_row: int = 0, seed: int = 0) -> Floats:
        """float32[n, width]: final states with what is trained, as `accumulate_states` has them."""
        own = self._share(batch)
        found = torch.zeros((len(batch[0]), self._width), device=self._device)
        if len(own.kept):
            with self._dropped(*self._drawn(first_row + own.kept, seed)):
                states = self._states(self._stacked(own.batch)).float()
            found[self._sent(own.kept[own.is_own])] = states[self._sent(own.is_own)]
        return _array(self._of_all(found))

    @torch.no_grad()
    def base_states(self, batch: Batch, rows: NDArray[np.int64]) -> Floats:
        """float32[rows, width]: final states of the model itself."""
        check_batch(batch, self._vocab, self._window)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(batch[0]):
            raise TrainingError(f"batch: position {rows.max()} of {len(batch[0])}")
        if self._untouched is None:
            self._untouched = self._base_values()
        asked = self._asked(self._stacked(batch))
        return _array(functional_call(self._network, self._untouched, asked)[0][rows])

    def step(
        self,
        rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.0,
        clip: float = 1.0,
    ) -> float:
        """Take a step of AdamW and clear the gradients; their length before it was cut.

        Raises:
            TrainingError: they are no numbers; nothing is changed.
        """
        self._of_all(self._optimizer.gradients)
        length: float = self._optimizer.step(rate, betas=betas, weight_decay=weight_decay, clip=clip)
        return length

    def parameters(self) -> dict[str, Floats]:
        """What is trained, by name."""
        return self._optimizer.arrays("values")

    def gradients(self) -> dict[str, Floats]:
        """What was added up since the last step, by name."""
        return self._optimizer.named(self._of_all(self._optimizer.gradients.clone()))

    def state(self) -> dict[str, Moments]:
        """Values and both moments of each parameter."""
        return self._optimizer.state()

    def restore(self, steps: int, state: Mapping[str, Moments]) -> None:
        """Go on from a state.

        Raises:
            TrainingError: it is of other parameters.
        """
        self._optimizer.restore(steps, state)

    def _accumulated(
        self, own: Share, counted: tuple[NDArray[Any], ...], first_row: int, seed: int
    ) -> Tensor:
        """Add up gradients of what counts of a share; the loss of all processes.

        Args:
            own: the share.
            counted: rows of it, and what the loss of those is made of.
            first_row: as of `accumulate`.
            seed: as of `accumulate`.
        """
        if not len(counted[0]):
            return self._of_all(torch.zeros((), device=self._device))
        batch, places = own.batch, first_row + own.kept
        if self._device.type == "cuda":
            batch, places, counted = padded(batch, places, counted)
        given = (self._stacked(batch), *self._drawn(places, seed), *map(self._sent, counted))
        with self._deterministic():
            return self._of_all(self._passes(*given))

    def _forth_and_back(
        self, batch: Tensor, places: Tensor, seed: Tensor, rows: Tensor, *wanted: Tensor
    ) -> Tensor:
        """Add up gradients; the loss. Nothing here waits for the device, so that it can be captured."""
        with self._dropped(places, seed):
            loss = self._loss(self._states(batch)[rows], *wanted)
            found = torch.autograd.grad(loss, self._learned, allow_unused=True)
        pairs = [(one.grad, new) for one, new in zip(self._learned, found, strict=True) if new is not None]
        torch._foreach_add_(*map(list, zip(*pairs, strict=True)))
        return loss.detach()

    def _stacked(self, batch: Batch) -> Tensor:
        """int32[5, n] on the device."""
        return self._sent(np.stack(batch))

    def _drawn(self, places: NDArray[np.int64], seed: int) -> tuple[Tensor, Tensor]:
        """What dropout is a function of, on the device."""
        return self._sent(places), self._sent(np.array(seed, np.int64))

    def _states(self, batch: Tensor) -> Tensor:
        """[n, width], of the products' type, of int32[5, n]."""
        return self._network(*self._asked(batch))[0]

    def _asked(self, batch: Tensor) -> tuple[Any, ...]:
        """Ids, positions, attention and its mask."""
        named = dict(zip(_PARTS, batch[:, None], strict=True))
        mask = self._attention.mask(named)
        return named["ids"].long(), named["positions"], self._attention, mask

    def _share(self, batch: Batch, **others: NDArray[Any] | None) -> Share:
        """What this process computes of a batch, which is checked."""
        check_batch(batch, self._vocab, self._window, **others)
        if self._team is None:
            return Share.whole(batch)
        return Share.of(batch, self._team.number, self._team.size)

    def _of_all(self, found: Tensor) -> Tensor:
        """The sum of all processes', in its place."""
        if self._team is not None:
            self._team.add_up(found)
        return found

    def _goal(
        self, batch: Batch, weights: Floats, labels: Ids | None, base: Floats | None
    ) -> tuple[Share, Counted]:
        """What is computed here, and what counts of it."""
        own = self._share(batch, weights=weights, labels=labels)
        if not self._is_decoder:
            raise TrainingError("batch: an encoder writes no tokens; expected gradients of its states")
        return own, Counted.of(own, weights, labels, base, (self._vocab, self._width))

    def _sent(self, array: NDArray[Any]) -> Tensor:
        """An array on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, non_blocking=True)

    @contextmanager
    def _dropped(self, places: Tensor, seed: Tensor) -> Iterator[None]:
        """Leave inputs of factors out, as of positions of the step by their numbers int64[n]."""
        for numbers, layers in self._layers:
            kept = kept_inputs(numbers, places, layers[0].inputs, self._dropout, seed)
            for layer, own in zip(layers, kept, strict=True):
                layer.kept, layer.kept_scaling = own, 1 / (1 - self._dropout)
        try:
            yield
        finally:
            for _, layers in self._layers:
                for layer in layers:
                    layer.kept, layer.kept_scaling = None, 1.0

    @contextmanager
    def _deterministic(self) -> Iterator[None]:
        """Have a GPU add up in the same order each time."""
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(before or self._device.type == "cuda")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)

    def _base_values(self) -> dict[str, Tensor]:
        """What stands in the model itself where something is trained, by the network's names."""
        names = {id(parameter): name for name, parameter in self._network.trained().items()}
        found = {}
        for path, parameter in self._network.named_parameters():
            name = names[id(parameter)]
            if name.endswith((B, SIDE_UP)):
                found[path] = torch.zeros_like(parameter)
            elif name.endswith(MAGNITUDE):
                layer = self._network.get_submodule(path.rpartition(".")[0])
                found[path] = torch.linalg.vector_norm(layer.weight.float(), dim=1)
            elif name.endswith(ROWS):
                found[path] = self._weights.exact(name.removesuffix(ROWS) + ".weight")[self._row_ids]
            elif not name.endswith((A, SIDE_DOWN)):
                found[path] = self._weights.exact(name)
        return found


def _linears(network: Any) -> Iterator[Linear]:
    """The linear layers of blocks, in the order in which the native trainer numbers them."""
    for block in network.blocks:
        yield from (*block.qkv, block.output, *block.wide, block.down)


def _by_width(network: Any, device: Any) -> list[tuple[Tensor, list[Linear]]]:
    """Layers with factors that have as many inputs, and their numbers, int64[layers]."""
    found: dict[int, tuple[list[int], list[Linear]]] = {}
    for number, layer in enumerate(_linears(network)):
        if layer.a is not None:
            numbers, layers = found.setdefault(layer.inputs, ([], []))
            numbers.append(number)
            layers.append(layer)
    return [(torch.tensor(numbers, device=device), layers) for numbers, layers in found.values()]


def _array(states: Tensor) -> Floats:
    found: Floats = states.float().cpu().numpy()
    return found
