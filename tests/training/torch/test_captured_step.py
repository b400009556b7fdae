"""Steps as one graph of a GPU are the steps they were captured from."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are of GPUs"),
]

from ai_os_diffusion.training.torch.captured_step import CapturedStep  # noqa: E402


def run(is_captured: bool, steps: int) -> tuple[list[float], list[float]]:
    """Weights and losses of a linear layer that learns from other numbers every step."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 8, device="cuda"))
    rate = torch.zeros((), device="cuda")
    optimizer = torch.optim.AdamW([weight], lr=rate, fused=True, capturable=True)

    def step(batches):
        total = torch.zeros((), device="cuda")
        for batch in batches:
            loss = (batch["x"] @ weight - batch["y"]).square().mean() / len(batches)
            loss.backward()
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    take = CapturedStep(step) if is_captured else step
    losses = []
    for number in range(steps):
        rate.fill_(1e-2 / (1 + number))
        rng = torch.Generator().manual_seed(number)
        batches = [{name: torch.randn(4, 8, generator=rng).cuda() for name in "xy"} for _ in range(2)]
        losses.append(take(batches))
    return weight.flatten().tolist(), [float(loss) for loss in losses]


def test_every_step_is_of_its_own_batch_and_rate():
    weights, losses = run(is_captured=True, steps=40)
    expected, told = run(is_captured=False, steps=40)
    assert weights == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert losses == pytest.approx(told, rel=1e-4)
