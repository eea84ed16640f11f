"""The core: one attention stack that serves every kind of token.

A model is embed → core → head. This room holds the core and the `Model` that joins the three; it knows no kind of
input, no spec and no task.

Axis legend, used in every signature here:

    b  batch (sequences)              d  width of a token
    t  tokens of a sequence           c  width of a context token
    s  context tokens (keys)          h  query heads
    n  packed tokens, all sequences   g  key and value heads (g divides h)
    m  packed context tokens          k  width of a head
    *tokens   either `b t` or `n`     *context  either `b s` or `m`
"""

from zoo.core.attention import Attention, KVCache
from zoo.core.convolution import Convolution
from zoo.core.layers import MLP, DropPath, FusedLinear, init_linear, make_norm, standardise
from zoo.core.lora import LowRank, adapters_of, add_lora, drop_lora, merge_lora
from zoo.core.model import Model, Output, Stream
from zoo.core.pack import DENSE, Layout, pack, unpack
from zoo.core.position import LearnedPosition, Rotary, SinusoidalPosition, interpolate_grid, sinusoids
from zoo.core.transformer import Block, BlockCache, Intermediates, Transformer

__all__ = [
    "DENSE",
    "MLP",
    "Attention",
    "Block",
    "BlockCache",
    "Convolution",
    "DropPath",
    "FusedLinear",
    "Intermediates",
    "KVCache",
    "Layout",
    "LearnedPosition",
    "LowRank",
    "Model",
    "Output",
    "Rotary",
    "SinusoidalPosition",
    "Stream",
    "Transformer",
    "adapters_of",
    "add_lora",
    "drop_lora",
    "init_linear",
    "interpolate_grid",
    "make_norm",
    "merge_lora",
    "pack",
    "sinusoids",
    "standardise",
    "unpack",
]
