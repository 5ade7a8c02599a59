"""Synapses: a linear map of spikes (dense, convolution or transposed convolution), with what surrounds it.

    y = W * (gain pool(x)) + b

``pool`` is an average pool of the spikes before the map, ``gain`` a fixed factor (2.74 behind standardised layers). Signals are
[M, *source] with time and batch flattened into M. A dense map may have delays (:mod:`lava_snnlearn.networks.delays`); it reads
whole sequences [T, B, *source] then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from lava_snnlearn.checks import whole_number
from lava_snnlearn.networks.delayed_maps import Rule, delayed_linear
from lava_snnlearn.networks.delays import Delays, DelaySettings
from lava_snnlearn.networks.norms import ScaledWeightStandardisation

if TYPE_CHECKING:
    from lava_snnlearn.networks.walk import Walk

Shape = tuple[int, ...]


class Affine(NamedTuple):
    """Real-valued weight and bias (float64) that a synapse applies to plain, pooled 0/1 spikes or to its input.

    ``weight`` [n_out, n_in], or a kernel [C_out, C_in, kh, kw] ([C_in, C_out, kh, kw] if transposed); ``bias`` one an output
    neuron (dense) or channel.
    """

    weight: Tensor
    bias: Tensor


class Geometry(NamedTuple):
    """How a convolution walks: ``stride`` and ``padding`` in both directions; ``transposed`` enlarges instead of shrinking."""

    kernel: int
    stride: int
    padding: int
    transposed: bool = False

    def side(self, n: int) -> int:
        """Length of an output side for an input side of n."""
        if self.transposed:
            return (n - 1) * self.stride - 2 * self.padding + self.kernel + (self.stride - 1)
        return (n + 2 * self.padding - self.kernel) // self.stride + 1


def as_shape(where: str, source: int | Shape) -> Shape:
    """(n,) or (C, H, W) of positive whole numbers.

    Raises:
        ValueError: another length, or a size below 1. TypeError: a size that is not whole.
    """
    sizes = source if isinstance(source, (tuple, list)) else (source,)
    shape = tuple(whole_number(where, n) for n in sizes)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(f"{where} is {shape}; give a number of neurons, or (channels, height, width), each at least 1")
    return shape


class Synapse(nn.Module):
    """A linear map with trained weight and bias.

    Args:
        source: shape of what it reads: n, or (C, H, W).
        outputs: neurons (dense) or channels (convolution).
        kernel: side of the convolution's kernel; None is a dense map of the flattened source.
        stride, padding: of the convolution; padding None keeps the size at stride 1 (kernel // 2).
        transposed: a transposed convolution (output ``stride`` times as large), as feedback connections use.
        pool: side of an average pool before the map (its stride as well); rows and columns that do not fill a pool are cut.
        upsample: factor by which maps are enlarged (nearest neighbour) before the map; feedback from small maps to large ones.
        standardise: scaled weight standardisation with a trained gain.
        input_gain: factor on the input.
        bias: whether a bias is added.
        delays: "axonal", "synaptic" or a :class:`~lava_snnlearn.networks.delays.DelaySettings`: spikes arrive late, by a
            learned number of steps (dense maps without pool). None: they do not.
        max_delay: largest delay in steps, 1..62, of ``delays`` given by name (None: 8).

    Attributes:
        observer: None, or called whenever a gradient of the weight is made, with its two factors: the presynaptic operand
            [M, *pooled source] (spikes, traces or rates, as the method has it) and the gradient of the output [M, *shape]. It
            may change the weight's ``.grad``, to which the gradient is added afterwards. It hears nothing of delayed synapses.
        delays: the :class:`~lava_snnlearn.networks.delays.Delays`, or None.

    Raises:
        ValueError: sizes that do not fit, standardisation with one input, delays of a convolution or behind a pool.
        TypeError: sizes that are not whole. LimitError, UnknownNameError: delays that do not exist.
    """

    observer: Callable[[Tensor, Tensor], None] | None = None

    def __init__(
        self,
        source: int | Shape,
        outputs: int,
        *,
        kernel: int | None = None,
        stride: int = 1,
        padding: int | None = None,
        transposed: bool = False,
        pool: int = 1,
        upsample: int = 1,
        standardise: bool = False,
        input_gain: float = 1.0,
        bias: bool = True,
        delays: str | DelaySettings | None = None,
        max_delay: int | None = None,
    ) -> None:
        super().__init__()
        self.source = as_shape("source of a synapse", source)
        self.pool, self.upsample = whole_number("pool", pool), whole_number("upsample", upsample)
        self.input_gain = float(input_gain)
        outputs = whole_number("outputs", outputs)
        pooled = self._pooled()
        self.geometry: Geometry | None = None
        if kernel is None:
            self.shape: Shape = (outputs,)
            size: Shape = (outputs, math.prod(pooled))
        else:
            self.geometry = _geometry(kernel, stride, padding, transposed, pooled)
            self.shape = (outputs, *(self.geometry.side(n) for n in pooled[1:]))
            channels = (pooled[0], outputs) if transposed else (outputs, pooled[0])
            size = (*channels, kernel, kernel)
        if min(self.shape) < 1:
            raise ValueError(
                f"a synapse from {self.source} (pool {self.pool}) with kernel {kernel} has no output: {self.shape}"
            )
        if standardise and (transposed or math.prod(size[1:]) < 2):
            what = "a transposed kernel" if transposed else f"{math.prod(size[1:])} input a neuron"
            raise ValueError(
                f"a synapse with {what} cannot be standardised (norm='sws'): the variance of the weights of a neuron needs at "
                "least 2 inputs. Use norm='none' or 'bn_step'."
            )
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.standardise = ScaledWeightStandardisation(outputs) if standardise else None
        nn.init.kaiming_normal_(self.weight)
        settings = DelaySettings.of(delays, max_delay)
        if settings is not None and (self.geometry is not None or self.pool > 1 or self.upsample > 1):
            what = "a convolution" if self.geometry is not None else "a map that pools or enlarges what it reads"
            raise ValueError(f"{what} cannot have delays; give them to dense maps that read spikes as they are")
        self.delays = None if settings is None else Delays(settings, math.prod(self.source), outputs)

    def _pooled(self) -> Shape:
        if self.upsample > 1 and self.pool == 1 and len(self.source) == 3:
            return (self.source[0], self.source[1] * self.upsample, self.source[2] * self.upsample)
        if self.upsample != 1:
            raise ValueError(
                f"upsample is {self.upsample}; it must be at least 1, needs maps, and cannot be joined with a pool"
            )
        if self.pool == 1:
            return self.source
        if self.pool < 1 or len(self.source) != 3 or min(self.source[1:]) < self.pool:
            raise ValueError(
                f"pool is {self.pool}; it needs a source (channels, height, width) at least as large, not {self.source}"
            )
        return (self.source[0], self.source[1] // self.pool, self.source[2] // self.pool)

    @property
    def outputs(self) -> int:
        """Number of target neurons."""
        return math.prod(self.shape)

    def effective_weight(self) -> Tensor:
        """Weight after standardisation; the parameter itself where there is none."""
        return self.weight if self.standardise is None else self.standardise(self.weight)

    def prepare(self, x: Tensor) -> Tensor:
        """[..., *source] to [M, *pooled source], pooled and multiplied by the gain (M: all leading dimensions)."""
        flat = x.flatten(0, x.dim() - len(self.source) - 1) if x.dim() > len(self.source) + 1 else x
        if self.pool > 1:
            flat = F.avg_pool2d(flat, self.pool)
        if self.upsample > 1:
            flat = F.interpolate(flat, scale_factor=self.upsample, mode="nearest")
        return flat if self.input_gain == 1.0 else flat * self.input_gain

    def map(self, prepared: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The linear map of :meth:`prepare`'s output with this weight and bias: [M, *shape]."""
        geometry = self.geometry
        if geometry is None:
            out = F.linear(prepared.flatten(1), weight, bias)
        elif geometry.transposed:
            out = F.conv_transpose2d(prepared, weight, bias, geometry.stride, geometry.padding, geometry.stride - 1)
        else:
            out = F.conv2d(prepared, weight, bias, geometry.stride, geometry.padding)
        if weight.requires_grad:
            self.observe_backward(out, prepared)
        return out

    def observe_backward(self, out: Tensor, operand: Tensor) -> None:
        """Let the observer see the factors of a weight gradient that autograd makes for ``out`` by itself."""
        observer = self.observer
        if observer is not None and out.requires_grad:
            kept = operand.detach()
            out.register_hook(lambda grad: observer(kept, grad))

    def operand_gradient(self, prepared: Tensor, grad: Tensor) -> Tensor:
        """Gradient of the weight [shape of the weight] for the operand ``prepared`` and the output's gradient [M, *shape]."""
        if self.observer is not None:
            self.observer(prepared, grad)
        return self._operand_gradient(prepared, grad)

    def _operand_gradient(self, prepared: Tensor, grad: Tensor) -> Tensor:
        geometry = self.geometry
        if geometry is None:
            return grad.t() @ prepared.flatten(1)
        # The transposed map's weight gradient is that of the convolution it transposes, with the roles exchanged.
        image, error = (grad, prepared) if geometry.transposed else (prepared, grad)
        return conv2d_weight(image, tuple(self.weight.shape), error, stride=geometry.stride, padding=geometry.padding)

    def add_operand_gradient(self, leaf: Tensor, prepared: Tensor, grad: Tensor) -> None:
        """Add :meth:`operand_gradient` to ``leaf.grad``; a dense product adds by itself, without memory of its own."""
        if self.observer is not None:
            self.observer(prepared, grad)
        if leaf.grad is None:
            leaf.grad = self._operand_gradient(prepared, grad)
        elif self.geometry is None:
            leaf.grad.addmm_(grad.t(), prepared.flatten(1))
        else:
            leaf.grad += self._operand_gradient(prepared, grad)

    def input_gradient(self, like: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
        """Gradient of :meth:`map`'s input, of the shape of ``like``."""
        geometry = self.geometry
        if geometry is None:
            return (grad @ weight).view(like.shape)
        if geometry.transposed:
            return F.conv2d(grad, weight, None, geometry.stride, geometry.padding)
        return conv2d_input(tuple(like.shape), weight, grad, stride=geometry.stride, padding=geometry.padding)

    def current(self, x: Tensor) -> Tensor:
        """Synaptic current [..., *shape] for x [..., *source]; with delays for a whole sequence [T, B, *source] from rest.

        Raises:
            ValueError: delays, but no time axis.
        """
        if self.delays is not None:
            return self._delayed_current(x, self.delays)
        flat = self.map(self.prepare(x), self.effective_weight(), self.bias)
        return flat.view(*x.shape[: x.dim() - len(self.source)], *self.shape)

    def prepare_sequence(self, x: Tensor) -> Tensor:
        """:meth:`prepare` of a sequence [T, B, n], which keeps its shape (maps without pool)."""
        return self.prepare(x.reshape(-1, *self.source)).view(x.shape)

    def _delayed_current(self, x: Tensor, delays: Delays) -> Tensor:
        if x.dim() != 2 + len(self.source) or x.shape[2:] != self.source:
            raise ValueError(
                f"a synapse with delays reads whole sequences [T, B, {_text(self.source)}], time first; got {tuple(x.shape)}"
            )
        flat = x.flatten(2)
        slope = None
        if delays.filter is not None:
            slope, _ = delays.filter(flat, flat.new_zeros(delays.limit + 2, *flat.shape[1:]))
        past = flat.new_zeros(delays.limit, *flat.shape[1:])
        rule = Rule(delays.axonal, delays.limit, self.prepare_sequence, self.input_gain, slope=slope)
        out = delayed_linear(flat, past, self.effective_weight(), self.bias, delays(), rule)
        return out.view(*x.shape[:2], *self.shape)

    def respond(self, signal: Any, walk: Walk) -> Any:
        """Synaptic current for a signal [T, B, *source]."""
        return walk.synapse(self, signal)

    def forward(self, x: Tensor) -> Tensor:
        """:meth:`current`."""
        return self.current(x)

    @torch.no_grad()
    def folded(self) -> Affine:
        """Standardisation and input gain folded into weight and bias, float64 (the pool is not)."""
        weight = self.effective_weight().detach().double() * self.input_gain
        channels = self.shape[0]
        return Affine(weight, weight.new_zeros(channels) if self.bias is None else self.bias.detach().double())

    def extra_repr(self) -> str:
        parts = [f"{_text(self.source)} -> {_text(self.shape)}"]
        if self.geometry is not None:
            kernel, stride, padding, transposed = self.geometry
            parts.append(f"kernel={kernel}, stride={stride}, padding={padding}" + (", transposed" if transposed else ""))
        parts += [f"{name}={n}" for name, n in (("pool", self.pool), ("upsample", self.upsample)) if n > 1]
        return ", ".join(parts)


class DelayLinear(Synapse):
    """A dense map whose spikes arrive late, by a learned number of steps: y_i[t] = sum_j W_ij x_j[t - d_ij] + b_i.

    Takes sequences [T, B, n_in], time first, to [T, B, n_out]; within a network it is a synapse as any other.

    Args:
        inputs, outputs: neurons at both ends.
        max_delay: largest delay in steps, 1..62.
        delays: "synaptic" (one delay a weight), "axonal" (one a source neuron), or a
            :class:`~lava_snnlearn.networks.delays.DelaySettings` (``max_delay`` is None then).
        bias: whether a bias is added.

    Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024 (GRSNN).

    Raises:
        LimitError, UnknownNameError, ValueError, TypeError: sizes or delays that do not exist.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        max_delay: int | None = None,
        *,
        delays: str | DelaySettings = "synaptic",
        bias: bool = True,
    ) -> None:
        if delays is None:
            raise TypeError("delays is None; give 'axonal', 'synaptic' or a DelaySettings, or use a plain Synapse")
        super().__init__(inputs, outputs, bias=bias, delays=delays, max_delay=max_delay)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _geometry(kernel: int, stride: int, padding: int | None, transposed: bool, source: Shape) -> Geometry:
    if len(source) != 3:
        raise ValueError(f"a convolution needs a source (channels, height, width), not {source}")
    sizes = [whole_number(name, n) for name, n in (("kernel", kernel), ("stride", stride))]
    edge = sizes[0] // 2 if padding is None else whole_number("padding", padding)
    if min(sizes) < 1 or edge < 0:
        raise ValueError(f"kernel {kernel}, stride {stride} and padding {padding}: the first two must be at least 1, padding 0")
    return Geometry(sizes[0], sizes[1], edge, transposed)
