"""Of tokens that a model gives a probability: how likely the true ones were to it.

Perplexity is exp of the mean negative log-likelihood of a token (Jelinek et al. 1977): the number of equally likely
tokens that would be as hard to choose among. It depends on the tokens; bits per byte do not (Gao et al. 2020,
arXiv:2101.00027): the same text has the same bytes, whoever cuts it.
"""

from collections.abc import Sequence

import numpy as np

from zoo.contract import Measures, Record, Statistic


def likelihood(records: Sequence[Record]) -> Measures:
    """Perplexity, and the share of tokens told right.

    Args:
        records: `prediction` and `target` are sequences of tokens; the column `log_likelihood` is the sum of the true
            ones', in nats; `num_bytes`, where all have it, the UTF-8 bytes of the text that these tokens are.
    """
    records = sorted(records, key=lambda record: record.id)
    counts = np.array([len(record.target) for record in records])
    nats = np.array([-record.columns["log_likelihood"] for record in records])
    right = np.array([np.sum(np.equal(record.target, record.prediction)) for record in records])
    statistics: dict[str, Statistic] = {
        "perplexity": lambda weights: float(np.exp((weights @ nats) / (weights @ counts))),
        "nats_per_token": lambda weights: float((weights @ nats) / (weights @ counts)),
        "token_accuracy": lambda weights: float((weights @ right) / (weights @ counts)),
    }
    if all("num_bytes" in record.columns for record in records):
        num_bytes = np.array([record.columns["num_bytes"] for record in records])
        statistics["bits_per_byte"] = lambda weights: float((weights @ nats) / np.log(2) / (weights @ num_bytes))
    return Measures("perplexity", statistics, higher_is_better=False)
