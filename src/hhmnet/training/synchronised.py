"""Batch norms whose statistics are those of all processes' rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hhmnet.training.distributed import Team


def synchronise_norms(network: nn.Module, team: Team) -> None:
    """Let batch norms take the statistics of all processes' rows, in place; names and weights stay what they are."""
    if team.size == 1:
        return
    for module in network.modules():
        if type(module) in _SYNCHRONISED:
            # The object itself changes its class: others, such as a list of frozen layers, hold on to it.
            module.__class__ = _SYNCHRONISED[type(module)]
            module.team = team  # type: ignore[assignment]


def has_synchronised_norms(network: nn.Module) -> bool:
    """Whether any batch norm is synchronised and takes statistics of batches, so all processes must come to it."""
    return any(isinstance(module, _Synchronised) and module.training for module in network.modules())


class _Synchronised(_BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015) over the rows of all processes, of which each may have other many.

    ``torch.nn.SyncBatchNorm`` needs a GPU. In eval mode, and so where it is frozen, this is a plain batch norm.
    """

    team: Team

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (N, D, ...)`` over all axes but D; N may be 0 here as long as it isn't everywhere."""
        if not self.training:
            return super().forward(x)
        if (
            not self.team.norms_together
        ):  # by what is known so far, and nothing is learned that others don't see
            mean, var = self.running_mean, self.running_var
            return functional.batch_norm(x, mean, var, self.weight, self.bias, mean is None, 0.0, self.eps)
        self._check_input_dim(x)
        y, mean, spread, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self.team)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                unbiased = spread / (count - 1).clamp_min(1)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return y


class SynchronisedNorm1d(_Synchronised, nn.BatchNorm1d):
    """See :func:`synchronise_norms`."""


class SynchronisedNorm2d(_Synchronised, nn.BatchNorm2d):
    """See :func:`synchronise_norms`."""


class SynchronisedNorm3d(_Synchronised, nn.BatchNorm3d):
    """See :func:`synchronise_norms`."""


_SYNCHRONISED: dict[type[nn.Module], type[_Synchronised]] = {
    nn.BatchNorm1d: SynchronisedNorm1d,
    nn.BatchNorm2d: SynchronisedNorm2d,
    nn.BatchNorm3d: SynchronisedNorm3d,
}


class _Normalise(torch.autograd.Function):
    """A batch norm of all processes' rows: one message each on the way forth and on the way back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, team: Team
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``x`` normalised; mean ``(D,)``, squared deviations from it in all ``(D,)``, number of values."""
        width, own = x.shape[1], x.numel() // x.shape[1]
        exact = torch.promote_types(x.dtype, torch.float32)
        told = torch.zeros(2 * width + 1, dtype=exact, device=x.device)
        if own:
            # Torch's own kernel: its sums are as exact as one process's, and several times faster than var_mean.
            _, mean, scale = torch.native_batch_norm(x, None, None, None, None, True, 0.0, eps)
            told[:width], told[width:-1], told[-1] = mean, (scale**-2 - eps).clamp_min(0) * own, own
        everyone = [torch.empty_like(told) for _ in range(team.size)]
        distributed.all_gather(everyone, told)
        table = torch.stack(everyone)
        means, spreads, counts = table[:, :width], table[:, width:-1], table[:, -1:]
        count = counts.sum().clamp_min(1)
        mean = (means * counts).sum(0) / count
        spread = (spreads + counts * (means - mean) ** 2).sum(0)
        y = functional.batch_norm(x, mean, spread / count, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, (spread / count + eps).rsqrt(), count)
        ctx.eps, ctx.own, ctx.team = eps, own, team
        ctx.mark_non_differentiable(mean, spread, count)
        return y, mean, spread, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Slopes by x, weight and bias; those by weight and bias are of this process's rows alone."""
        x, weight, mean, scale, count = ctx.saved_tensors
        dy, width = gradients[0], x.shape[1]
        shape = (1, width, *[1] * (x.ndim - 2))
        dx, by_weight, by_bias = torch.zeros_like(x), torch.zeros_like(mean), torch.zeros_like(mean)
        if ctx.own:
            dx, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, None, None, mean, scale, True, ctx.eps, [True, True, True]
            )
        if ctx.needs_input_grad[0]:
            # What torch computed has this process's means of the slopes in the place of everyone's.
            sums = torch.cat([by_bias, by_weight])
            distributed.all_reduce(sums)
            wrong = torch.cat([by_bias, by_weight]) / max(ctx.own, 1) - sums / count
            lift, tilt = wrong[:width], wrong[width:] * scale
            factor = scale if weight is None else scale * weight
            dx = torch.addcmul(
                dx + ((lift - tilt * mean) * factor).view(shape), x, (tilt * factor).view(shape)
            )
            dx = dx.to(x.dtype)
        affine = weight is not None
        return dx, by_weight if affine else None, by_bias if affine else None, None, None
