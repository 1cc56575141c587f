"""Clipped gradient sums of many clients at once, each client with parameters of its own.

The same function of each client's records as `tacitly_client.training.gradient`, which is the
oracle in the tests; read its docstring for the mathematics. What differs is that every tensor has
the clients as its first dimension, so that one call serves them all: a client's own batch is too
small for a matrix product to be worth its call. Arrays are [clients, time, batch, ...], so that a
client's activations lie together and its weight sums are one product each.

Everything large lives in buffers that are used again and again: fresh memory costs a page fault
for each 4 KiB, and those cost as much as the arithmetic. No loss is computed: nothing in a round
needs it.

Before their first step all clients have the same parameters. Given as one tensor expanded along
the clients (stride 0) these stay in a core's cache, and what follows from them alone is made once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from tacitly_client.training.gradient import (
    EMBEDDING,
    INPUT_BIAS,
    INPUT_WEIGHT,
    OUTPUT_BIAS,
    OUTPUT_WEIGHT,
    RECURRENT_BIAS,
    RECURRENT_WEIGHT,
    clipped_gradient_sum,
)
from tacitly_common.model_config import ADAPTERS
from tacitly_common.vocabulary import START

_OUTPUT: Final = frozenset({OUTPUT_WEIGHT, OUTPUT_BIAS, *ADAPTERS[OUTPUT_WEIGHT]})
_RECURRENT: Final = frozenset({RECURRENT_WEIGHT, RECURRENT_BIAS, *ADAPTERS[RECURRENT_WEIGHT]})
_GRU: Final = _RECURRENT | {INPUT_WEIGHT, INPUT_BIAS}
_STEPS_AT_ONCE: Final = 8  # of the gates' derivatives; what they touch stays in a core's cache


_Views = TypeVar("_Views")


@dataclass(slots=True)
class Buffers:
    """Memory by name, which only grows. One computation at a time may use it."""

    _flat: dict[str, Tensor] = field(default_factory=dict)
    _views: dict[str, tuple[tuple[int, ...], Any]] = field(default_factory=dict)

    def take(self, name: str, *shape: int) -> Tensor:
        """A contiguous float32 tensor of this shape, not initialised; the last one is gone."""
        size = prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size:
            flat = self._flat[name] = torch.empty(size)
            self._views.clear()
        return flat[:size].view(shape)

    def views(self, name: str, shape: tuple[int, ...], make: Callable[[], _Views]) -> _Views:
        """`make()`, which cuts up what `take` gave for this shape, or what it gave last time.

        A view costs a microsecond, about as much as the arithmetic on it.
        """
        kept = self._views.get(name)
        if kept is None or kept[0] != shape:
            kept = self._views[name] = (shape, make())
        views: _Views = kept[1]
        return views


@dataclass(frozen=True, slots=True)
class _Forward:
    """Activations. Gates in torch's order: reset, update, new."""

    tokens: Tensor  # int64[K, T, B]
    hidden: Tensor  # [K, T + 1, B, H]; hidden[:, 0] = 0
    gates: Tensor  # [K, T, B, 3H] after their sigmoid, sigmoid and tanh
    recurrent: Tensor  # [K, T, B, H]: W_hn h + b_hn, what the reset gate multiplies
    output: Tensor  # [K, T, B, V]: of the record's loss by the logits


@dataclass(frozen=True, slots=True)
class _Flow:
    """What flows back into the linear maps; `gates` is [K, T, B, 4H]: new, reset, update, new."""

    output: Tensor
    gates: Tensor | None
    embedded: Tensor | None  # [K, T, B, E]


def clipped_gradient_sums(
    parameters: Mapping[str, Tensor],
    windows: Tensor,
    *,
    trainable: frozenset[str],
    clip_norm: float | None,
    buffers: Buffers,
) -> dict[str, Tensor]:
    """For each client the sum over its records of their clipped gradients: [clients, ...] each.

    `parameters` are [clients, ...], contiguous or one tensor expanded along the clients; `windows`
    are int64[clients, batch, time + 1]. A row of START alone is padding: it adds exactly nothing.
    Otherwise as `clipped_gradient_sum`, client by client: a record whose norm is NaN or infinite
    counts as zero where there is a clip. The result lies in `buffers`: it is good until the next
    call.
    """
    clients, batch, _ = windows.shape
    if clients == 0 or batch == 0:
        return {name: torch.zeros_like(parameters[name]) for name in trainable}
    with torch.no_grad():
        effective = _folded(parameters, buffers)
        forward = _forward(effective, windows, buffers)
        flow = _backward(effective, forward, trainable, buffers)
        if clip_norm is not None:
            squares = _squared_norms(parameters, forward, flow, trainable, buffers)
            if not torch.isfinite(squares).all():
                return _one_by_one(parameters, windows, trainable, clip_norm)
            factors = (clip_norm / squares.clamp_min(0).sqrt()).clamp_max(1.0)
            for part in (flow.output, flow.gates, flow.embedded):
                if part is not None:
                    part.mul_(factors[:, None, :, None])
        return _weight_sums(parameters, forward, flow, trainable, buffers)


def _one_by_one(
    parameters: Mapping[str, Tensor],
    windows: Tensor,
    trainable: frozenset[str],
    clip_norm: float,
) -> dict[str, Tensor]:
    """By the device's own code, which leaves out what is not finite."""
    each = [
        clipped_gradient_sum(
            {name: tensor[client] for name, tensor in parameters.items()},
            windows[client],
            trainable=trainable,
            clip_norm=clip_norm,
        ).gradients
        for client in range(len(windows))
    ]
    return {name: torch.stack([gradients[name] for gradients in each]) for name in trainable}


def _folded(parameters: Mapping[str, Tensor], buffers: Buffers) -> Mapping[str, Tensor]:
    """With W + U D in the place of each adapted W."""
    products: dict[str, Tensor] = {}
    for weight, (down, up) in ADAPTERS.items():
        if up in parameters:
            whole = parameters[weight]
            own, ups, downs = _own(whole, parameters[up], parameters[down])
            out = buffers.take(f"folded {weight}", *own.shape)
            products[weight] = torch.baddbmm(own, ups, downs, out=out).expand_as(whole)
    return {**parameters, **products}


def _forward(parameters: Mapping[str, Tensor], windows: Tensor, buffers: Buffers) -> _Forward:
    clients, batch, length = windows.shape
    time = length - 1
    size = parameters[RECURRENT_WEIGHT].shape[2]

    table = _input_table(parameters, buffers)
    tokens = windows[:, :, :-1].transpose(1, 2).contiguous()
    gates = buffers.take("gates", clients, time, batch, 3 * size)
    rows = _rows(tokens, table).view(-1)
    torch.index_select(table.view(-1, 3 * size), 0, rows, out=gates.view(-1, 3 * size))

    hidden = buffers.take("hidden", clients, time + 1, batch, size)
    hidden[:, 0] = 0
    recurrent = buffers.take("recurrent", clients, time, batch, size)
    product = buffers.take("product", clients, batch, 3 * size)
    # Contiguous in and out, or the products of the clients are made one by one.
    (recurrent_weight,) = _own(parameters[RECURRENT_WEIGHT])
    transposed = recurrent_weight.transpose(1, 2)
    weight = buffers.take("weight", *transposed.shape).copy_(transposed).expand(clients, -1, -1)
    new_bias = parameters[RECURRENT_BIAS][:, None, 2 * size :]
    steps = buffers.views(
        "forward",
        (clients, time, batch, size),
        lambda: [
            (product[:, :, : 2 * size], product[:, :, 2 * size :], *of_step)
            for of_step in zip(
                hidden[:, :-1].unbind(1),
                hidden[:, 1:].unbind(1),
                recurrent.unbind(1),
                gates[..., : 2 * size].unbind(1),
                gates[..., :size].unbind(1),
                gates[..., size : 2 * size].unbind(1),
                gates[..., 2 * size :].unbind(1),
                strict=True,
            )
        ],
    )
    for to_reset_update, to_new, before, after, kept, ru, r, u, n in steps:
        torch.bmm(before, weight, out=product)
        ru.add_(to_reset_update).sigmoid_()
        torch.add(to_new, new_bias, out=kept)
        n.addcmul_(r, kept).tanh_()
        torch.lerp(n, before, u, out=after)

    output = buffers.take("output", clients, time * batch, parameters[OUTPUT_BIAS].shape[1])
    torch.baddbmm(
        parameters[OUTPUT_BIAS].unsqueeze(1),
        hidden[:, 1:].flatten(1, 2),
        parameters[OUTPUT_WEIGHT].transpose(1, 2),
        out=output,
    )
    torch.softmax(output, 2, out=output)
    targets = windows[:, :, 1:].transpose(1, 2).reshape(clients, time * batch, 1)
    output.scatter_add_(2, targets, output.new_full((1, 1, 1), -1.0).expand_as(targets))
    output.mul_((targets != START).float() / time)
    return _Forward(tokens, hidden, gates, recurrent, output.view(clients, time, batch, -1))


def _input_table(parameters: Mapping[str, Tensor], buffers: Buffers) -> Tensor:
    """What each token adds to the gates: [K, V, 3H], or [1, V, 3H] where it is the same for all.

    With the recurrent biases of reset and update: added once a token, not once a step.
    """
    embedding, weight, bias, recurrent_bias = _own(
        *(parameters[name] for name in (EMBEDDING, INPUT_WEIGHT, INPUT_BIAS, RECURRENT_BIAS))
    )
    gates = weight.shape[1]
    folded = bias.clone()
    folded[:, : gates // 3 * 2] += recurrent_bias[:, : gates // 3 * 2]
    out = buffers.take("table", *embedding.shape[:2], gates)
    return torch.baddbmm(folded.unsqueeze(1), embedding, weight.transpose(1, 2), out=out)


def _backward(
    parameters: Mapping[str, Tensor],
    forward: _Forward,
    trainable: frozenset[str],
    buffers: Buffers,
) -> _Flow:
    if not trainable & (_GRU | {EMBEDDING}):
        return _Flow(forward.output, None, None)
    clients, time, batch = forward.tokens.shape
    size = forward.hidden.shape[3]
    through = buffers.take("through", clients, time, batch, size)
    torch.bmm(
        forward.output.flatten(1, 2), parameters[OUTPUT_WEIGHT], out=through.view(clients, -1, size)
    )
    flow = buffers.take("flow", clients, time, batch, 4 * size)
    _put_derivatives(forward, flow, buffers)
    arriving = buffers.take("arriving", clients, batch, size)
    weight = parameters[RECURRENT_WEIGHT]
    steps = buffers.views(
        "backward",
        (clients, time, batch, size),
        lambda: list(
            zip(
                flow.view(clients, time, batch, 4, size).unbind(1),
                flow[..., size:].unbind(1),
                forward.gates[..., size : 2 * size].unbind(1),
                # What arrives at the step before; nothing comes before the first.
                (arriving.new_zeros(()), *through.unbind(1)[:-1]),
                strict=True,
            )
        )[::-1],
    )
    at_later = arriving.unsqueeze(2)
    arriving.copy_(through[:, -1])
    for at_gates, back, update, arrives in steps:
        at_gates.mul_(at_later)
        torch.addcmul(arrives, arriving, update, out=arriving).baddbmm_(back, weight)

    embedded = None
    if EMBEDDING in trainable:
        embedding = parameters[EMBEDDING].shape[2]
        embedded = buffers.take("embedded", clients, time, batch, embedding)
        torch.bmm(
            flow[..., : 3 * size].flatten(1, 2),
            _new_first(*_own(parameters[INPUT_WEIGHT])).expand(clients, -1, -1),
            out=embedded.view(clients, -1, embedding),
        )
    return _Flow(forward.output, flow, embedded)


def _put_derivatives(forward: _Forward, flow: Tensor, buffers: Buffers) -> None:
    """Into `flow` the derivative of each gate, before its tanh or sigmoid, by what arrives at h_t.

    With h_t = n + u (h - n) and n = tanh(. + r k), for (new, reset, update, k):
    (1 - u)(1 - n^2),  of new x k r (1 - r),  (h - n) u (1 - u),  of new x r.
    """
    time = forward.recurrent.shape[1]
    one = torch.ones(())
    tanh_backward, sigmoid_backward = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward
    for first in range(0, time, _STEPS_AT_ONCE):
        now = slice(first, first + _STEPS_AT_ONCE)
        before, kept = forward.hidden[:, :-1][:, now], forward.recurrent[:, now]
        reset, update, new = forward.gates[:, now].chunk(3, dim=3)
        at_new, at_reset, at_update, at_kept = flow[:, now].chunk(4, dim=3)
        part = buffers.take("part", *kept.shape)
        torch.sub(one, update, out=part)
        tanh_backward(part, new, grad_input=at_new)
        torch.mul(at_new, reset, out=at_kept)
        torch.mul(at_new, kept, out=part)
        sigmoid_backward(part, reset, grad_input=at_reset)
        torch.sub(before, new, out=part)
        sigmoid_backward(part, update, grad_input=at_update)


def _squared_norms(
    parameters: Mapping[str, Tensor],
    forward: _Forward,
    flow: _Flow,
    trainable: frozenset[str],
    buffers: Buffers,
) -> Tensor:
    """|g_i|^2 over the trainable tensors, float32[clients, batch]."""
    size = forward.hidden.shape[3]
    clients, time, batch = forward.tokens.shape
    total = torch.zeros(clients, batch)
    hidden = None
    if trainable & {OUTPUT_WEIGHT, RECURRENT_WEIGHT}:
        hidden = _gram(forward.hidden, "hidden", buffers)

    def add_adapter(weight: str, inputs: Tensor, flowing: Tensor, outputs: Tensor) -> None:
        """`inputs` [K, T, B, H] and what is `flowing` back; `outputs` is the latter's Gram."""
        down, up = ADAPTERS[weight]
        if up in trainable:
            lowered = _gram(_times(inputs, parameters[down].transpose(1, 2)), "adapter", buffers)
            total.add_(lowered.mul_(outputs).sum((2, 3)))
        if down in trainable:
            lowered = _gram(_times(flowing, parameters[up]), "adapter", buffers)
            total.add_(lowered.mul_(_gram(inputs, "adapted", buffers)).sum((2, 3)))

    def add_linear(inputs: Tensor | None, outputs: Tensor, weight: str, bias: str) -> None:
        """The last to look at `outputs`, in whose place the products come."""
        if bias in trainable:
            total.add_(outputs.sum((2, 3)))
        if weight in trainable and inputs is not None:
            total.add_(outputs.mul_(inputs).sum((2, 3)))

    if trainable & _OUTPUT:
        after = None if hidden is None else hidden[..., 1:, 1:]
        outputs = _gram(flow.output, "output", buffers)
        add_adapter(OUTPUT_WEIGHT, forward.hidden[:, 1:], flow.output, outputs)
        add_linear(after, outputs, OUTPUT_WEIGHT, OUTPUT_BIAS)
    if flow.gates is not None and trainable & _GRU:
        shared = _gram(flow.gates[..., size : 3 * size], "shared", buffers)
        if trainable & _RECURRENT:
            before = None if hidden is None else hidden[..., :-1, :-1]
            outputs = _gram(flow.gates[..., 3 * size :], "output", buffers).add_(shared)
            add_adapter(RECURRENT_WEIGHT, forward.hidden[:, :-1], flow.gates[..., size:], outputs)
            add_linear(before, outputs, RECURRENT_WEIGHT, RECURRENT_BIAS)
        if trainable & {INPUT_WEIGHT, INPUT_BIAS}:
            vectors = _embedded(parameters, forward, buffers).view(clients, time, batch, -1)
            inputs = _gram(vectors, "hidden", buffers)
            outputs = _gram(flow.gates[..., :size], "output", buffers).add_(shared)
            add_linear(inputs, outputs, INPUT_WEIGHT, INPUT_BIAS)
    if flow.embedded is not None:
        tokens = forward.tokens.transpose(1, 2)
        same_token = tokens.unsqueeze(3) == tokens.unsqueeze(2)
        total.add_(_gram(flow.embedded, "output", buffers).mul_(same_token).sum((2, 3)))
    return total


def _weight_sums(
    parameters: Mapping[str, Tensor],
    forward: _Forward,
    flow: _Flow,
    trainable: frozenset[str],
    buffers: Buffers,
) -> dict[str, Tensor]:
    """sum_{i,t} b_it a_it' for each client and trainable tensor."""
    size = forward.hidden.shape[3]
    sums = {
        name: buffers.take(f"sum of {name}", *parameters[name].shape) for name in sorted(trainable)
    }

    def put_map(weight: str, inputs: Tensor, outputs: Tensor) -> None:
        """Of a weight and its adapter, of those of them that train."""
        down, up = ADAPTERS[weight]
        if weight in trainable:
            torch.bmm(outputs.transpose(1, 2), inputs, out=sums[weight])
        if up in trainable:
            lowered = torch.bmm(inputs, parameters[down].transpose(1, 2))
            torch.bmm(outputs.transpose(1, 2), lowered, out=sums[up])
        if down in trainable:
            lowered = torch.bmm(outputs, parameters[up])
            torch.bmm(lowered.transpose(1, 2), inputs, out=sums[down])

    output = flow.output.flatten(1, 2)
    # A product with ones is faster than a sum along the middle.
    ones = torch.ones(1, 1, output.shape[1]).expand(len(output), -1, -1)
    put_map(OUTPUT_WEIGHT, forward.hidden[:, 1:].flatten(1, 2), output)
    if OUTPUT_BIAS in trainable:
        torch.bmm(ones, output, out=sums[OUTPUT_BIAS].unsqueeze(1))
    if flow.gates is not None:
        gates = flow.gates.flatten(1, 2)
        put_map(RECURRENT_WEIGHT, forward.hidden[:, :-1].flatten(1, 2), gates[:, :, size:])
        if INPUT_WEIGHT in trainable:
            embedded = _embedded(parameters, forward, buffers).view(*gates.shape[:2], -1)
            into_input = gates[:, :, : 3 * size].transpose(1, 2)
            sums[INPUT_WEIGHT].copy_(_new_last(torch.bmm(into_input, embedded)))
        if trainable & {INPUT_BIAS, RECURRENT_BIAS}:
            bias = torch.bmm(ones, gates)[:, 0]
            if RECURRENT_BIAS in trainable:
                sums[RECURRENT_BIAS].copy_(bias[:, size:])
            if INPUT_BIAS in trainable:
                sums[INPUT_BIAS].copy_(_new_last(bias[:, : 3 * size]))
    if flow.embedded is not None:
        rows = _rows(forward.tokens, sums[EMBEDDING].zero_())
        sums[EMBEDDING].flatten(0, 1).index_add_(0, rows.view(-1), flow.embedded.flatten(0, 2))
    return sums


def _own(*parameters: Tensor) -> tuple[Tensor, ...]:
    """As they are, [K, ...]; but [1, ...] where the clients share them all."""
    if any(parameter.stride(0) for parameter in parameters):
        return parameters
    return tuple(parameter[:1] for parameter in parameters)


def _rows(tokens: Tensor, tables: Tensor) -> Tensor:
    """Where each client's tokens are in the stack of `tables` [K or 1, V, ...]: as `tokens`."""
    stacked, vocabulary = tables.shape[:2]
    if stacked == 1:
        return tokens
    return tokens + torch.arange(0, stacked * vocabulary, vocabulary).view(-1, 1, 1)


def _embedded(parameters: Mapping[str, Tensor], forward: _Forward, buffers: Buffers) -> Tensor:
    """The embedding of every token: [K x T x B, E]."""
    (tables,) = _own(parameters[EMBEDDING])
    rows = _rows(forward.tokens, tables).view(-1)
    out = buffers.take("inputs", len(rows), tables.shape[2])
    return torch.index_select(tables.flatten(0, 1), 0, rows, out=out)


def _times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Each client's vectors by its own matrix: [K, T, B, k] by [K, k, r] -> [K, T, B, r]."""
    clients, time, batch, _ = vectors.shape
    return torch.bmm(vectors.flatten(1, 2), matrices).view(clients, time, batch, -1)


def _gram(vectors: Tensor, name: str, buffers: Buffers) -> Tensor:
    """Inner products over time within each record: [K, T, B, k] -> [K, B, T, T]."""
    clients, time, batch, width = vectors.shape
    by_record = buffers.take("by record", clients, batch, time, width)
    by_record.copy_(vectors.transpose(1, 2))
    flat = by_record.view(-1, time, width)
    gram = buffers.take(f"gram {name}", clients, batch, time, time)
    torch.bmm(flat, flat.transpose(1, 2), out=gram.view(-1, time, time))
    return gram


def _new_first(gates: Tensor) -> Tensor:
    """[K, 3H, ...]: rows (reset, update, new) -> (new, reset, update), the order of `_Flow`."""
    return gates.roll(gates.shape[1] // 3, dims=1)


def _new_last(gates: Tensor) -> Tensor:
    """The inverse of `_new_first`."""
    return gates.roll(-(gates.shape[1] // 3), dims=1)
