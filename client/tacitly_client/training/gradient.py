"""Clipped gradient sums of the interaction model, at the price of an ordinary gradient.

What DP-SGD needs of a batch is sum_i c_i g_i with c_i = min(1, C / |g_i|), g_i the gradient of
record i. Forming every g_i costs 8 to 14 times a plain step for a recurrent layer; here no
per-record gradient ever exists:

    1. forward by hand, keeping the activations; the input's share of the gates comes from a
       table over the vocabulary
    2. backward by hand, down to what flows into each linear map at each time step
    3. |g_i|^2 from Gram matrices over time: for a linear map with inputs a_t and output
       gradients b_t, g_i = sum_t b_t a_t', so |g_i|^2 = sum_{t,s} <a_t, a_s> <b_t, b_s>
       ("ghost norm": Goodfellow 2015; Li et al. 2022, "Large language models can be strong
       differentially private learners", section 4); a bias is an input that is always 1
    4. scale each record's b_t by c_i and sum over records and time, one product per tensor

An adapted map W + U D (`ModelConfig`) is one map in 1 and 2. In 3 and 4 its U is a map with inputs
D a_t and output gradients b_t, its D one with inputs a_t and output gradients U' b_t.

The function differentiated is `InteractionModel`'s; tests hold it to torch.func and to Opacus.
Single precision: at the weights of an honest model a record's norm is off by some 1e-6 of its
value, as with any other float32 implementation of the clip. A model made to cancel in the Gram
products can push that further; the clip of the whole update (mechanisms/) is not affected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tacitly_common.model_config import ADAPTERS
from tacitly_common.vocabulary import START

EMBEDDING: Final = "embedding.weight"
INPUT_WEIGHT: Final = "gru.weight_ih_l0"
RECURRENT_WEIGHT: Final = "gru.weight_hh_l0"
INPUT_BIAS: Final = "gru.bias_ih_l0"
RECURRENT_BIAS: Final = "gru.bias_hh_l0"
OUTPUT_WEIGHT: Final = "output.weight"
OUTPUT_BIAS: Final = "output.bias"
RECURRENT_DOWN, RECURRENT_UP = ADAPTERS[RECURRENT_WEIGHT]
OUTPUT_DOWN, OUTPUT_UP = ADAPTERS[OUTPUT_WEIGHT]

_OUTPUT: Final = frozenset({OUTPUT_WEIGHT, OUTPUT_BIAS, OUTPUT_DOWN, OUTPUT_UP})
_RECURRENT: Final = frozenset({RECURRENT_WEIGHT, RECURRENT_BIAS, RECURRENT_DOWN, RECURRENT_UP})
_GRU: Final = _RECURRENT | {INPUT_WEIGHT, INPUT_BIAS}


@dataclass(frozen=True, slots=True)
class GradientSum:
    """`gradients` by tensor name; `losses` float32[records summed]: they stay on the device."""

    gradients: dict[str, Tensor]
    losses: Tensor


@dataclass(frozen=True, slots=True)
class _Forward:
    """Activations, time-major: [time, batch, ...]. Gates in torch's order: reset, update, new."""

    tokens: Tensor  # int64[T, B]
    hidden: Tensor  # [T + 1, B, H]; hidden[0] = 0, hidden[t + 1] follows token t
    gates: Tensor  # [T, B, 3H] after their sigmoid, sigmoid and tanh
    recurrent: Tensor  # [T, B, H]: W_hn h + b_hn, what the reset gate multiplies
    output_gradient: Tensor  # [T, B, V]: of the record's loss by the logits
    losses: Tensor  # [B]


@dataclass(frozen=True, slots=True)
class _Flow:
    """What flows back into the linear maps, time-major.

    `gates` is [T, B, 4H]: the gradients at new (input side), reset, update, new (recurrent
    side). The first three blocks flow into the input map, the last three into the recurrent one.
    """

    output: Tensor  # [T, B, V]
    gates: Tensor | None  # None if nothing below the output is trained
    embedded: Tensor | None  # [T, B, E]; None if the embedding is not trained


def clipped_gradient_sum(
    parameters: Mapping[str, Tensor],
    windows: Tensor,
    *,
    trainable: frozenset[str],
    clip_norm: float | None,
) -> GradientSum:
    """The sum over records of their clipped gradients, for the tensors in `trainable`.

    A record is one row of `windows`, int64[batch, time + 1]: each token but the first is
    predicted from those before it. Its loss is the sum of the cross entropies of the predictions
    whose target is not START, divided by `time`: the denominator is public. A record's norm is
    taken over the trainable tensors together; `clip_norm` None means no clipping.

    With a clip a record whose norm is NaN or infinite counts as zero, or a hostile model could
    choose what overflows and read from the failure whether a record holds it.

    | batch                     | result            |
    |---------------------------|-------------------|
    | empty or all padding      | zeros             |
    | a NaN parameter, clipped  | zeros             |
    | a NaN parameter, no clip  | NaN in the result |
    """
    if windows.shape[0] == 0:
        zeros = {name: torch.zeros_like(parameters[name]) for name in trainable}
        return GradientSum(zeros, torch.zeros(0))
    with torch.no_grad():
        effective = _folded(parameters)
        forward = _forward(effective, windows)
        flow = _backward(effective, forward, trainable)
        if clip_norm is not None:
            squares = _squared_norms(parameters, forward, flow, trainable)
            finite = torch.isfinite(squares)
            if not finite.all():
                # Left out rather than scaled by zero, which keeps a NaN.
                return clipped_gradient_sum(
                    parameters, windows[finite], trainable=trainable, clip_norm=clip_norm
                )
            _scale(flow, (clip_norm / squares.clamp_min(0).sqrt()).clamp_max(1.0))
        return GradientSum(_weight_sums(parameters, forward, flow, trainable), forward.losses)


def _folded(parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """With W + U D in the place of each adapted W."""
    products = {
        weight: torch.addmm(parameters[weight], parameters[up], parameters[down])
        for weight, (down, up) in ADAPTERS.items()
        if up in parameters
    }
    return {**parameters, **products} if products else parameters


def _forward(parameters: Mapping[str, Tensor], windows: Tensor) -> _Forward:
    tokens = windows[:, :-1].t().contiguous()
    targets = windows[:, 1:].t().reshape(-1, 1)
    time, batch = tokens.shape
    size = parameters[RECURRENT_WEIGHT].shape[1]

    table = torch.addmm(parameters[INPUT_BIAS], parameters[EMBEDDING], parameters[INPUT_WEIGHT].t())
    gates = table[tokens]
    recurrent = torch.empty(time, batch, 3 * size)
    hidden = torch.zeros(time + 1, batch, size)
    weight, bias = parameters[RECURRENT_WEIGHT].t(), parameters[RECURRENT_BIAS]
    # The views are made once, not once per step: at this size the calls cost as much as the work.
    reset_update, new = gates[:, :, : 2 * size], gates[:, :, 2 * size :]
    steps = zip(
        hidden[:-1].unbind(),
        hidden[1:].unbind(),
        recurrent.unbind(),
        recurrent[:, :, : 2 * size].unbind(),
        recurrent[:, :, 2 * size :].unbind(),
        reset_update.unbind(),
        gates[:, :, :size].unbind(),
        gates[:, :, size : 2 * size].unbind(),
        new.unbind(),
        strict=True,
    )
    for before, after, whole, add_ru, add_new, ru, r, u, n in steps:
        torch.addmm(bias, before, weight, out=whole)
        ru.add_(add_ru).sigmoid_()
        n.addcmul_(r, add_new).tanh_()
        torch.lerp(n, before, u, out=after)

    flat = hidden[1:].reshape(time * batch, size)
    logits = torch.addmm(parameters[OUTPUT_BIAS], flat, parameters[OUTPUT_WEIGHT].t())
    log_probabilities = torch.log_softmax(logits, 1)
    share = (targets != START).float() / time
    losses = -log_probabilities.gather(1, targets) * share
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(1, targets, gradient.new_full((1, 1), -1.0).expand(time * batch, 1))
    gradient.mul_(share)
    return _Forward(
        tokens=tokens,
        hidden=hidden,
        gates=gates,
        recurrent=recurrent[:, :, 2 * size :],
        output_gradient=gradient.view(time, batch, -1),
        losses=losses.view(time, batch).sum(0),
    )


def _backward(
    parameters: Mapping[str, Tensor], forward: _Forward, trainable: frozenset[str]
) -> _Flow:
    if not trainable & (_GRU | {EMBEDDING}):
        return _Flow(forward.output_gradient, None, None)
    time, batch = forward.tokens.shape
    size = forward.hidden.shape[2]
    reset, update, new = forward.gates.chunk(3, dim=2)

    # Every gate's gradient is the hidden state's gradient times a factor known before the loop.
    flow = torch.empty(time, batch, 4, size)
    at_new, at_reset, at_update, at_recurrent = flow.unbind(2)
    torch.mul(1 - update, 1 - new * new, out=at_new)
    torch.mul(at_new, reset, out=at_recurrent)
    torch.mul(at_recurrent * forward.recurrent, 1 - reset, out=at_reset)
    torch.mul(forward.hidden[:-1] - new, update * (1 - update), out=at_update)

    through = (forward.output_gradient.view(time * batch, -1) @ parameters[OUTPUT_WEIGHT]).view(
        time, batch, size
    )
    weight = parameters[RECURRENT_WEIGHT]
    into_recurrent = flow.view(time, batch, 4 * size)[:, :, size:]
    for t in range(time - 1, -1, -1):
        flow[t].mul_(through[t].unsqueeze(1))
        if t:
            through[t - 1].addcmul_(through[t], update[t]).addmm_(into_recurrent[t], weight)

    gates = flow.view(time, batch, 4 * size)
    embedded = None
    if EMBEDDING in trainable:
        embedded = gates[:, :, : 3 * size] @ _new_first(parameters[INPUT_WEIGHT])
    return _Flow(forward.output_gradient, gates, embedded)


def _squared_norms(
    parameters: Mapping[str, Tensor],
    forward: _Forward,
    flow: _Flow,
    trainable: frozenset[str],
) -> Tensor:
    """|g_i|^2 over the trainable tensors, float32[batch]."""
    size = forward.hidden.shape[2]
    total = torch.zeros(forward.tokens.shape[1])
    hidden = _gram(forward.hidden) if trainable & {OUTPUT_WEIGHT, RECURRENT_WEIGHT} else None

    def add_linear(inputs: Tensor | None, outputs: Tensor, weight: str, bias: str) -> None:
        if bias in trainable:
            total.add_(outputs.sum((1, 2)))
        if weight in trainable and inputs is not None:
            total.add_((outputs * inputs).sum((1, 2)))

    def add_adapter(weight: str, inputs: Tensor, flowing: Tensor, outputs: Tensor) -> None:
        """`inputs` [T, B, H] and what is `flowing` back; `outputs` is the latter's Gram matrix."""
        down, up = ADAPTERS[weight]
        if up in trainable:
            total.add_((outputs * _gram(inputs @ parameters[down].t())).sum((1, 2)))
        if down in trainable:
            total.add_((_gram(inputs) * _gram(flowing @ parameters[up])).sum((1, 2)))

    if trainable & _OUTPUT:
        after = None if hidden is None else hidden[:, 1:, 1:]
        outputs = _gram(flow.output)
        add_linear(after, outputs, OUTPUT_WEIGHT, OUTPUT_BIAS)
        add_adapter(OUTPUT_WEIGHT, forward.hidden[1:], flow.output, outputs)
    if flow.gates is not None and trainable & _GRU:
        shared = _gram(flow.gates[:, :, size : 3 * size])
        if trainable & _RECURRENT:
            before = None if hidden is None else hidden[:, :-1, :-1]
            outputs = shared + _gram(flow.gates[:, :, 3 * size :])
            add_linear(before, outputs, RECURRENT_WEIGHT, RECURRENT_BIAS)
            add_adapter(RECURRENT_WEIGHT, forward.hidden[:-1], flow.gates[:, :, size:], outputs)
        if trainable & {INPUT_WEIGHT, INPUT_BIAS}:
            inputs = _gram(parameters[EMBEDDING][forward.tokens])
            outputs = shared + _gram(flow.gates[:, :, :size])
            add_linear(inputs, outputs, INPUT_WEIGHT, INPUT_BIAS)
    if flow.embedded is not None:
        rows = forward.tokens.t()
        same_token = rows.unsqueeze(2) == rows.unsqueeze(1)
        total.add_((_gram(flow.embedded) * same_token).sum((1, 2)))
    return total


def _scale(flow: _Flow, factors: Tensor) -> None:
    """Multiply each record's flow by its factor, in place. `factors` is float32[batch]."""
    for part in (flow.output, flow.gates, flow.embedded):
        if part is not None:
            part.mul_(factors.unsqueeze(1))


def _weight_sums(
    parameters: Mapping[str, Tensor],
    forward: _Forward,
    flow: _Flow,
    trainable: frozenset[str],
) -> dict[str, Tensor]:
    """sum_{i,t} b_it a_it' for each trainable tensor."""
    size = forward.hidden.shape[2]
    sums: dict[str, Tensor] = {}

    def put_map(weight: str, inputs: Tensor, outputs: Tensor) -> None:
        """Of a weight and its adapter, of those of them that train."""
        down, up = ADAPTERS[weight]
        if weight in trainable:
            sums[weight] = outputs.t() @ inputs
        if up in trainable:
            sums[up] = outputs.t() @ (inputs @ parameters[down].t())
        if down in trainable:
            sums[down] = (outputs @ parameters[up]).t() @ inputs

    output = flow.output.flatten(0, 1)
    put_map(OUTPUT_WEIGHT, forward.hidden[1:].flatten(0, 1), output)
    if OUTPUT_BIAS in trainable:
        sums[OUTPUT_BIAS] = output.sum(0)
    if flow.gates is not None:
        gates = flow.gates.flatten(0, 1)
        into_input, into_recurrent = gates[:, : 3 * size], gates[:, size:]
        put_map(RECURRENT_WEIGHT, forward.hidden[:-1].flatten(0, 1), into_recurrent)
        if RECURRENT_BIAS in trainable:
            sums[RECURRENT_BIAS] = into_recurrent.sum(0)
        if INPUT_WEIGHT in trainable:
            embedded = parameters[EMBEDDING][forward.tokens].flatten(0, 1)
            sums[INPUT_WEIGHT] = _new_last(into_input.t() @ embedded)
        if INPUT_BIAS in trainable:
            sums[INPUT_BIAS] = _new_last(into_input.sum(0))
    if flow.embedded is not None:
        sums[EMBEDDING] = torch.zeros_like(parameters[EMBEDDING]).index_add_(
            0, forward.tokens.flatten(), flow.embedded.flatten(0, 1)
        )
    return sums


def _gram(vectors: Tensor) -> Tensor:
    """Inner products over time within each record: [time, batch, k] -> [batch, time, time]."""
    by_record = vectors.transpose(0, 1)
    return torch.bmm(by_record, by_record.transpose(1, 2))


def _new_first(gates: Tensor) -> Tensor:
    """Rows (reset, update, new) -> (new, reset, update), the order of `_Flow.gates`."""
    return gates.roll(gates.shape[0] // 3, dims=0)


def _new_last(gates: Tensor) -> Tensor:
    """The inverse of `_new_first`."""
    return gates.roll(-(gates.shape[0] // 3), dims=0)
