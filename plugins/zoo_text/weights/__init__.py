"""Published weights of texts' models: what transformers calls what is ours, family by family."""

from zoo_text.weights.bert import (
    BERT,
    DISTILBERT,
    ELECTRA,
    MASKED_BERT,
    MASKED_DISTILBERT,
    MASKED_ELECTRA,
    MASKED_ROBERTA,
    ROBERTA,
    bert_rows,
    bert_shape,
)
from zoo_text.weights.decoder import Decoder
from zoo_text.weights.encoder import ALL_BIASES, Encoder, Pretrained, masked_rows
from zoo_text.weights.gpt2 import CAUSAL_GPT2, GPT2
from zoo_text.weights.llama import (
    CAUSAL_LLAMA,
    CAUSAL_MISTRAL,
    CAUSAL_QWEN2,
    CAUSAL_QWEN3,
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
)
from zoo_text.weights.modernbert import MASKED_MODERNBERT, MODERNBERT

FAMILIES = (BERT, ROBERTA, ELECTRA, DISTILBERT, MODERNBERT)
PRETRAINED = (MASKED_BERT, MASKED_ROBERTA, MASKED_ELECTRA, MASKED_DISTILBERT, MASKED_MODERNBERT)
DECODERS = (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3)
CAUSAL = (CAUSAL_GPT2, CAUSAL_LLAMA, CAUSAL_MISTRAL, CAUSAL_QWEN2, CAUSAL_QWEN3)

__all__ = [
    "ALL_BIASES",
    "BERT",
    "CAUSAL",
    "CAUSAL_GPT2",
    "CAUSAL_LLAMA",
    "CAUSAL_MISTRAL",
    "CAUSAL_QWEN2",
    "CAUSAL_QWEN3",
    "DECODERS",
    "DISTILBERT",
    "ELECTRA",
    "FAMILIES",
    "GPT2",
    "LLAMA",
    "MASKED_BERT",
    "MASKED_DISTILBERT",
    "MASKED_ELECTRA",
    "MASKED_MODERNBERT",
    "MASKED_ROBERTA",
    "MISTRAL",
    "MODERNBERT",
    "PRETRAINED",
    "QWEN2",
    "QWEN3",
    "ROBERTA",
    "Decoder",
    "Encoder",
    "Pretrained",
    "bert_rows",
    "bert_shape",
    "masked_rows",
]
