"""Forward of Llama-like models on a CPU over packed rows, or over packed prompts with answer trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.models.batching import CPU_TOKENS, TokenBatch
from engine.models.forward import llama_layers
from engine.models.forward.attention import MULTIPLE as KEYS
from engine.models.forward.attention import (
    HeadCounts,
    Layout,
    RotaryAttention,
    RowGroup,
    group_rows,
    group_suffix,
)
from engine.models.forward.llama_layers import Layer, ModelParts, recognise_model
from engine.models.forward.operations import HEAD_ROWS, NormedLinears, ResidualLinear, ResidualSwiglu, RmsNorm

# Forward of Llama-like models on a CPU over packed rows, without padding.
#
# It computes what the model's own forward does, with functions that store little for backward. For models
# that `recognise_model` rejects, rows are padded and the model's own forward is called.

MULTIPLE = 64  # number of tokens: each new size of a matrix product costs milliseconds once


def compute_hidden_states(model: Any, batch: TokenBatch) -> Tensor | None:
    """Return the output layer's input at the picked positions [trained, width], in row-major order.

    Spare rows follow up to a multiple of `MULTIPLE`. None if `recognise_model` rejects the model.
    """
    model_parts = recognise_model(model, max(batch.lengths))
    if isinstance(model_parts, str):
        return None
    config = model_parts.causal.config
    row_groups = group_rows(batch.lengths, HeadCounts(config.num_attention_heads, config.num_key_value_heads))
    return forward_tokens(model_parts, *_pack_batch(batch), row_groups)


def forward_tokens(
    model_parts: ModelParts, tokens: Tensor, positions: Tensor, picked: Tensor, grouped: Sequence[RowGroup]
) -> Tensor:
    """Return the output layer's input at the positions `picked` of `tokens`, whose rows are `grouped`."""
    inner = model_parts.causal.model
    x = inner.embed_tokens(tokens[None])[0]
    layout = _build_layout(model_parts.causal, grouped, x, positions)
    for layer in model_parts.layers[:-1]:
        x = _call_layer(layer, x, layout, None)
    x = _call_layer(model_parts.layers[-1], x, layout, picked)
    normed: Tensor = RmsNorm.apply(x, inner.norm.weight, inner.norm.variance_epsilon)
    return normed


def _pack_batch(batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the packed tokens, their positions, and the picked ones.

    At least one spare token follows. Boolean masks aren't used as indices, since their result has no size
    on the meta device.
    """
    lengths = torch.tensor(batch.lengths)
    begin = lengths.cumsum(0) - lengths
    count, width = sum(batch.lengths), batch.inputs.shape[1]
    spare = MULTIPLE - count % MULTIPLE
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    column = torch.arange(count) - begin[row]
    filler = torch.zeros(spare, dtype=torch.int64)
    tokens = torch.cat((batch.inputs.flatten().index_select(0, row * width + column), filler))
    at = batch.picked.nonzero()
    picked = begin[at[:, 0]] + at[:, 1]
    picked = torch.cat((picked, torch.full((-len(picked) % MULTIPLE,), count)))
    return tokens, torch.cat((column, filler)), picked


def _build_layout(causal: Any, grouped: Sequence[RowGroup], x: Tensor, positions: Tensor) -> Layout:
    attention = causal.model.layers[0].self_attn
    heads, kv = causal.config.num_attention_heads, causal.config.num_key_value_heads
    cos, sin = causal.model.rotary_emb(x[None], position_ids=positions[None])
    cos, sin, half = cos[0], sin[0], cos.shape[-1] // 2
    signed = torch.cat((-sin[:, :half], sin[:, half:]), -1)
    return Layout(heads, kv, attention.head_dim, attention.scaling, grouped, cos, signed)


def _call_layer(layer: Layer, x: Tensor, layout: Layout, picked: Tensor | None) -> Tensor:
    """Run the layer, with gradient checkpointing if enabled, and call its forward hooks with the output."""
    module = layer.module
    if module.gradient_checkpointing and module.training and torch.is_grad_enabled():
        y: Tensor = module._gradient_checkpointing_func(
            partial(_forward_layer, layer, layout=layout, picked=picked), x
        )
    else:
        y = _forward_layer(layer, x, layout, picked)
    for watch in module._forward_hooks.values():
        watch(module, (x,), y)
    return y


def _forward_layer(layer: Layer, x: Tensor, layout: Layout, picked: Tensor | None) -> Tensor:
    """Run one layer on x [tokens, width].

    `picked`: tokens whose outputs are returned, for the last layer; None for all.
    """
    module = layer.module
    attention = module.self_attn
    x, query, key, value = _normalise_linears(layer, module.input_layernorm, x, "q_proj", "k_proj", "v_proj")
    if hasattr(attention, "q_norm"):
        query, key = (
            RmsNorm.apply(y.view(-1, layout.width), norm.weight, norm.variance_epsilon).view(len(y), -1)
            for y, norm in ((query, attention.q_norm), (key, attention.k_norm))
        )
    mixed = RotaryAttention.apply(layout, query, key, value)
    if picked is not None:
        mixed, x = mixed.index_select(0, picked), x.index_select(0, picked)
    out, down = layer.all_of("o_proj", "down_proj")
    x = ResidualLinear.apply(out, mixed, x, *out.tensors)
    x, gate, up = _normalise_linears(layer, module.post_attention_layernorm, x, "gate_proj", "up_proj")
    summed: Tensor = ResidualSwiglu.apply(down, gate, up, x, *down.tensors)
    return summed


def _normalise_linears(layer: Layer, norm: Any, x: Tensor, *names: str) -> tuple[Tensor, ...]:
    """Return x, and the outputs of the named linear layers on its normalised rows."""
    parts = layer.all_of(*names)
    tensors = [tensor for part in parts for tensor in part.tensors]
    outputs: tuple[Tensor, ...] = NormedLinears.apply(parts, norm.variance_epsilon, x, norm.weight, *tensors)
    return outputs


# Answers to one prompt as a tree that holds shared prefixes once, and rows of a prompt and its tree.
#
# A node is a token after which another one is scored; the last token of a branch is only scored, never passed
# through a model. Parents precede their children, so that in a row of a prompt and its nodes no token has to
# see what follows it.

Tokens = Sequence[int]


@dataclass(frozen=True)
class TokenTree:
    """Answers (branches) to one prompt as a tree of tokens.

    - tokens, depths: of the nodes
    - visible: [nodes, nodes]: each node sees itself and its ancestors
    - after: node that precedes each of `asked_tokens` (-1: the prompt's last token)
    - asked_tokens: tokens to score
    - path: the branches as indices into `asked_tokens`, concatenated
    - of: branch of each entry of `path`
    """

    tokens: np.ndarray
    depths: np.ndarray
    visible: np.ndarray
    after: np.ndarray
    asked_tokens: np.ndarray
    path: np.ndarray
    of: np.ndarray

    def runs(self, most: int) -> list[slice]:
        """Split the nodes into runs of similar size, about `most` nodes each, that don't see one another.

        Branches with a shared prefix stay in one run.
        """
        size = len(self.tokens) / max(1, -(-len(self.tokens) // most))
        cuts = [0]
        for place in np.flatnonzero(self.depths == 0).tolist():
            if place - cuts[-1] >= size:
                cuts.append(place)
        return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(self.tokens)], strict=True)]

    def sums(self, each: np.ndarray, branches: int) -> np.ndarray:
        """Return the sum over each branch's tokens; `each`: values of `asked_tokens`."""
        return np.bincount(self.of, each[self.path], branches)


def grow_tree(branches: Sequence[Tokens]) -> TokenTree:
    """Build the tree of these branches."""
    asked: dict[tuple[int, int], int] = {}  # (preceding node, token) -> index in asked_tokens
    node_of: dict[int, int] = {}
    parents: list[int] = []
    path: list[int] = []
    for branch in branches:
        node = -1
        for place, token in enumerate(branch):
            path.append(asked.setdefault((node, token), len(asked)))
            if place + 1 < len(branch):
                before, node = node, node_of.setdefault(path[-1], len(parents))
                if node == len(parents):
                    parents.append(before)
    visible = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible[node] |= visible[parent]
    after, asked_tokens = np.array([*asked], np.int64).reshape(-1, 2).T
    return TokenTree(
        tokens=asked_tokens[[*node_of]] if node_of else asked_tokens[:0],
        depths=visible.sum(1) - 1,
        visible=visible,
        after=after,
        asked_tokens=asked_tokens,
        path=np.array(path, np.int64),
        of=np.repeat(np.arange(len(branches)), [len(branch) for branch in branches]),
    )


def grow_forest(branches: Sequence[Tokens], most: int) -> list[tuple[np.ndarray, TokenTree]]:
    """Distribute the branches over trees of at most `most` nodes; a longer branch gets its own tree.

    Returns the indices of each tree's branches, and the tree.
    """
    order = sorted(range(len(branches)), key=lambda i: tuple(branches[i]))
    trees: list[list[int]] = []
    nodes = 0
    last: Tokens = ()
    for i in order:
        branch = branches[i]
        same = next((n for n, (a, b) in enumerate(zip(last, branch, strict=False)) if a != b), len(last))
        new = max(0, len(branch) - 1 - min(same, max(0, len(last) - 1)))
        if not trees or nodes + new > most:
            trees.append([])
            nodes, new = 0, len(branch) - 1
        trees[-1].append(i)
        nodes += new
        last = branch
    return [(np.array(some), grow_tree([branches[i] for i in some])) for some in trees]


@dataclass(frozen=True)
class TreeRow:
    """Prompt number `prompt` with a tree of its branches `which`."""

    prompt: int
    ids: Tokens
    which: np.ndarray
    tree: TokenTree

    def __len__(self) -> int:
        return len(self.ids) + len(self.tree.tokens)

    @property
    def picked(self) -> int:
        """Number of tokens with logits: the last ones of the row."""
        return 1 + len(self.tree.tokens)

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of the prompt and of the nodes."""
        return np.concatenate([np.asarray(self.ids, np.int64), self.tree.tokens])

    @property
    def positions(self) -> np.ndarray:
        """Position of each token in its own text."""
        return np.concatenate([np.arange(len(self.ids)), len(self.ids) + self.tree.depths])

    @property
    def visible(self) -> np.ndarray:
        """Which tokens of the row each token sees."""
        sees = np.tri(len(self), dtype=bool)
        sees[len(self.ids) :, len(self.ids) :] = self.tree.visible
        return sees


def build_tree_rows(
    prompts: Sequence[Tokens], branches: Sequence[Sequence[Tokens]], enough: int, most: int
) -> list[TreeRow]:
    """Return rows of each prompt with its branches, longest row first.

    A tree has at most `enough` nodes, or as many as the prompt has tokens, since each further tree repeats
    the prompt, but never more than `most`. Its nodes are in depth-first order.
    """
    tree_rows: list[TreeRow] = []
    forests: dict[tuple[int, int], list[tuple[np.ndarray, TokenTree]]] = {}
    for i, (ids, some) in enumerate(zip(prompts, branches, strict=True)):
        room = min(max(enough, len(ids)), most)
        key = id(some), room  # prompts may share one list of branches
        if key not in forests:
            forests[key] = grow_forest(some, room)
        tree_rows += [TreeRow(i, ids, which, tree) for which, tree in forests[key]]
    return sorted(tree_rows, key=lambda row: -len(row))


def count_common_prefix(several: Sequence[Tokens]) -> int:
    """Return the length of the common prefix, leaving at least one token to each sequence."""
    first, last = min(map(tuple, several)), max(map(tuple, several))
    most = min(map(len, several)) - 1
    return next((n for n, (a, b) in enumerate(zip(first[:most], last, strict=False)) if a != b), max(0, most))


def make_tree_mask(ahead: Sequence[int], sees: Sequence[np.ndarray], multiple: int = 1) -> np.ndarray:
    """Return which keys the tokens of several rows see: bool [rows, longest, max ahead + longest].

    Both lengths are rounded up to `multiple`. Each token sees the `ahead` keys before its row, which end
    where the row's own begin, and the row's own as `sees` says. Padding sees everything, since softmax over
    nothing is NaN.
    """
    longest = -(-max(map(len, sees)) // multiple) * multiple
    front = -(-max(ahead) // multiple) * multiple
    visible = np.zeros((len(sees), longest, front + longest), bool)
    for row, before, own in zip(visible, ahead, sees, strict=True):
        row[:, front - before : front] = True
        row[: len(own), front : front + len(own)] = own
        row[len(own) :] = True
    return visible


# Prompts with answer trees through the packed forward on a CPU.
#
# A batch is a concatenation of the common prefix of all its prompts, the rest of each prompt, and runs of
# each tree's nodes. Every such piece sees itself and what precedes it in its own row, so that no prompt is
# passed twice and attention skips the tokens of other runs.

MAX_BATCH_TOKENS = {"cpu": CPU_TOKENS["full"], "cuda": 16_384}  # tokens per batch
MIN_SHARED_TOKENS = 16  # tokens; a shorter prefix is not worth the longer keys
MAX_RUN_NODES = 96  # nodes


@dataclass(frozen=True)
class _Piece:
    """Consecutive tokens of one row.

    - places: positions in the row
    - ahead: earlier tokens that it sees, as positions in the batch
    - sees: which of its own tokens each token sees
    """

    row: int
    places: np.ndarray
    ahead: np.ndarray
    sees: np.ndarray


class PackedForward:
    """Packed forward of one model; `head_rows`: rows whose logits are computed at a time."""

    most_picked = MAX_BATCH_TOKENS["cpu"]  # logits are computed in parts

    def __init__(self, parts: llama_layers.ModelParts, head_rows: int = HEAD_ROWS) -> None:
        self.parts, self.head_rows = parts, head_rows
        self.head = parts.causal.get_output_embeddings()
        config = parts.causal.config
        self.heads = HeadCounts(config.num_attention_heads, config.num_key_value_heads)

    def logits(self, rows: Sequence[TreeRow]) -> Iterator[Tensor]:
        """Yield, in parts, the logits after each row's last prompt token and its nodes, row by row.

        Logits after the last row belong to spare tokens.
        """
        shared = count_common_prefix([row.ids for row in rows]) if len(rows) > 1 else 0
        shared = shared if shared >= MIN_SHARED_TOKENS else 0
        sets = _split_pieces(rows, shared)
        whole = [rows[0].tokens[:shared]], [np.arange(shared)]
        where = [np.zeros(len(row), np.int64) for row in rows]  # position in the batch of each token of a row
        start = shared
        for piece in (piece for pieces in sets for piece in pieces):
            row = rows[piece.row]
            whole[0].append(row.tokens[piece.places])
            whole[1].append(row.positions[piece.places])
            where[piece.row][piece.places] = np.arange(start, start + len(piece.places))
            start += len(piece.places)
        filler = np.zeros(MULTIPLE - start % MULTIPLE, np.int64)
        tokens, positions = (torch.from_numpy(np.concatenate([*parts, filler])) for parts in whole)
        picked = np.concatenate([at[len(row.ids) - 1 :] for at, row in zip(where, rows, strict=True)])
        picked = np.concatenate([picked, np.full(-len(picked) % MULTIPLE, start)])
        grouped = self._groups(shared, sets, start)
        hidden = forward_tokens(self.parts, tokens, positions, torch.from_numpy(picked), grouped)
        for part in hidden.split(self.head_rows):
            yield self.head(part)

    def _groups(self, shared: int, sets: Sequence[Sequence[_Piece]], spare: int) -> list[RowGroup]:
        row_groups = group_rows([shared], self.heads, spare) if shared else []
        start = shared
        for pieces in sets:
            lengths = [len(piece.places) for piece in pieces]
            ahead = [torch.from_numpy(piece.ahead) for piece in pieces]
            seen = make_tree_mask([len(each) for each in ahead], [piece.sees for piece in pieces], KEYS)
            mask = make_additive_mask(seen, self.parts.causal.dtype)
            row_groups.append(group_suffix(start, lengths, ahead, self.heads, spare, mask))
            start += sum(lengths)
        return row_groups


def _split_pieces(rows: Sequence[TreeRow], shared: int) -> list[list[_Piece]]:
    """Split the rows into sets that are computed together: prompts, and runs of nodes.

    A prompt's piece includes its nodes if they are few.
    """
    ahead = np.arange(shared)
    prompts: list[_Piece] = []
    runs: list[_Piece] = []
    start = shared
    for i, row in enumerate(rows):
        prompt = len(row.ids)
        few = len(row.tree.tokens) <= MAX_RUN_NODES
        end = len(row) if few else prompt
        prompts.append(_Piece(i, np.arange(shared, end), ahead, row.visible[shared:end, shared:end]))
        before = np.concatenate([ahead, np.arange(start, start + prompt - shared)])
        start += end - shared
        for run in [] if few else row.tree.runs(MAX_RUN_NODES):
            places = np.arange(prompt + run.start, prompt + run.stop)
            runs.append(_Piece(i, places, before, row.tree.visible[run, run]))
    return [pieces for pieces in (prompts, runs) if pieces]


def make_additive_mask(visible: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Return the mask that is added to attention scores for this visibility."""
    unseen = torch.from_numpy(~visible)
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(unseen, torch.finfo(dtype).min)
