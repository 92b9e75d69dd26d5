"""Perceiver IO as a library: arrays in, arrays out.

raw example ──experiments/data──▶ batch        {name: [B, ...]}   host
batch       ──inputs───────────▶ x  input array     [B, M, C]   ┐
x           ──Encoder──────────▶ z  latent array    [B, N, D]   │
z           ──Processor────────▶ z  latent array    [B, N, D]   │ device,
batch       ──learned/position─▶ q  output queries  [B, O, E]   │ one jit
q, z        ──Decoder──────────▶ y  output array    [B, O, E]   │
y           ──outputs──────────▶ prediction                     ┘
prediction  ──losses───────────▶ scalar
prediction  ──metrics──────────▶ per example [B, ...]
"""

from perceiver.attention import Attention
from perceiver.attention import CrossAttention
from perceiver.attention import MLP
from perceiver.attention import SelfAttention
from perceiver.context import attend_by
from perceiver.context import attended_by
from perceiver.context import compiled_for
from perceiver.context import compute_in
from perceiver.context import laid_out_by
from perceiver.context import no_recording
from perceiver.context import ordered_by
from perceiver.context import products_in
from perceiver.context import record_attention
from perceiver.context import remember
from perceiver.kernels.softmax import attend
from perceiver.learned import LearnedArray
from perceiver.perceiver_ar import CausalEncoder
from perceiver.perceiver_ar import CausalProcessor
from perceiver.perceiver_io import AverageDecoder
from perceiver.perceiver_io import Decoder
from perceiver.perceiver_io import Encoder
from perceiver.perceiver_io import Processor
from perceiver.perceiver_io import RepeatedEncoder

__version__ = "0.2.0"

__all__ = [
    "Attention",
    "AverageDecoder",
    "CausalEncoder",
    "CausalProcessor",
    "CrossAttention",
    "Decoder",
    "Encoder",
    "LearnedArray",
    "MLP",
    "Processor",
    "RepeatedEncoder",
    "SelfAttention",
    "attend",
    "attend_by",
    "attended_by",
    "compiled_for",
    "compute_in",
    "laid_out_by",
    "no_recording",
    "ordered_by",
    "products_in",
    "record_attention",
    "remember",
]
