"""The contract of a loss; see `blurgate.training.interfaces.Loss`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blurgate.errors import BlurgateError
from blurgate.testing import common

if TYPE_CHECKING:
    from torch import Tensor

_BINS: Final = 20


class Subject(common.FactorySubject):
    """A loss to check: a registered name or a factory, and its keyword arguments."""

    kind = "loss"

    def batch(self, head: str, n: int = 16) -> tuple[Tensor, Tensor]:
        """Draw the raw output of a head, and targets."""
        import torch

        generator = torch.Generator().manual_seed(0)
        output = torch.randn(n, 1 if head == "regression" else _BINS, generator=generator)
        return output, torch.rand(n, generator=generator)


def says_which_head_it_needs(subject: Subject) -> None:
    """`head` is "regression" or "bins"; the output of the other kind is a `BlurgateError`."""
    loss = subject.make()
    head = getattr(loss, "head", None)
    common.require(
        head in ("regression", "bins"), f"`head` must be 'regression' or 'bins', got {head!r}"
    )
    other, target = subject.batch("bins" if head == "regression" else "regression")
    with common.refused("the output of another head", BlurgateError):
        loss(other, target)


def gives_one_number_per_batch(subject: Subject) -> None:
    """A float32 scalar, finite: the mean over the batch, also of bfloat16 outputs."""
    import torch

    loss = subject.make()
    output, target = subject.batch(loss.head)
    whole = loss(output, target)
    common.require(
        whole.shape == () and whole.dtype == torch.float32 and bool(whole.isfinite()),
        f"a loss must be a finite float32 scalar, got {whole!r}",
    )
    halves = (loss(output[:8], target[:8]) + loss(output[8:], target[8:])) / 2
    common.require(
        abs(float(halves - whole)) <= 1e-4 * max(1, abs(float(whole))),
        f"it is not the mean over the batch: {float(whole):g}, of halves {float(halves):g}",
    )
    half = loss(output.to(torch.bfloat16), target)
    common.require(half.dtype == torch.float32, f"of bfloat16 outputs it is {half.dtype}")


def goes_downhill(subject: Subject) -> None:
    """Gradients are finite, also far away and of degrees 0 and 1; a step against them helps."""
    loss = subject.make()
    for scale in (1.0, 1e4):
        output, target = subject.batch(loss.head)
        output = (output * scale).requires_grad_()
        before = loss(output, target)
        before.backward()
        common.require(output.grad is not None, "the output has no gradient")
        assert output.grad is not None
        common.require(bool(output.grad.isfinite().all()), "a gradient is not finite")
        ends = output.detach().requires_grad_()
        loss(ends, (target > 0.5).float()).backward()
        common.require(
            ends.grad is not None and bool(ends.grad.isfinite().all()),
            "a gradient is not finite where the true degrees are 0 and 1, which labels may be",
        )
        if scale == 1.0:
            after = loss(output.detach() - 1e-2 * output.grad, target)
            common.require(
                after.item() < before.item(),
                f"a step against the gradient took it from {before.item():g} to {after.item():g}",
            )


def prefers_the_truth(subject: Subject) -> None:
    """The right degrees cost less than wrong ones."""
    import torch

    loss = subject.make()
    target = torch.linspace(0.025, 0.975, _BINS)
    right, wrong = target[:, None], target.flip(0)[:, None]
    if loss.head == "bins":
        right = 10 * torch.eye(_BINS)
        wrong = right.flip(0)
    good, bad = float(loss(right, target)), float(loss(wrong, target))
    common.require(good < bad, f"the right degrees cost {good:g}, wrong ones {bad:g}")


def refuses_what_is_no_number(subject: Subject) -> None:
    """NaN in outputs or targets, and targets outside [0, 1], raise a `BlurgateError`."""
    import torch

    loss = subject.make()
    output, target = subject.batch(loss.head)
    with common.refused("outputs that are NaN", BlurgateError):
        loss(torch.full_like(output, torch.nan), target)
    for value in (torch.nan, 1.5, -0.5):
        with common.refused(f"targets of {value}", BlurgateError):
            loss(output, torch.full_like(target, value))


CHECKS: Final = (
    common.takes_keywords_only,
    says_which_head_it_needs,
    gives_one_number_per_batch,
    goes_downhill,
    prefers_the_truth,
    refuses_what_is_no_number,
)
