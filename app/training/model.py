"""A small real model: how positive or negative a token is, from its letters.

Owns the features (counts of character n-grams, hashed into buckets), the model (a linear softmax over the nine ratings
-4 … 4; the prediction is the mean of that distribution) and its loss. Pure and the same on every machine: no random
numbers, no hash seed. The functions take all parameters as one flat array, as `custom_loss` and its regularizers do.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import autograd.numpy as np
import msgspec

from app.labeling.lexicon import Token
from app.training.gradients import Array
from app.training.regularizers import entropy, log_softmax

__all__ = ["BUCKETS", "RATINGS", "Batch", "batch_of", "initial_params", "ngrams", "predict", "squared_error", "unsure"]

BUCKETS = 1024
RATINGS = np.arange(-4.0, 5.0)
_LONGEST = 4


class Batch(msgspec.Struct, frozen=True):
    """Tokens as a model sees them: a row of features each, and the mean of the ratings that people gave it."""

    features: Array
    valence: Array

    def __len__(self) -> int:
        return len(self.valence)


def batch_of(tokens: Sequence[Token]) -> Batch:
    """Turn tokens into features of length 1 each, and their mean ratings."""
    features = np.zeros((len(tokens), BUCKETS))
    for row, token in zip(features, tokens, strict=True):
        for ngram in ngrams(token.text):
            row[zlib.crc32(ngram.encode()) % BUCKETS] += 1.0
        row /= np.linalg.norm(row)
    return Batch(features, np.array([sum(token.ratings) / len(token.ratings) for token in tokens]))


def ngrams(text: str) -> list[str]:
    """List the character n-grams of a text, of 1 to 4 characters, its borders marked.

    >>> ngrams("ok")
    ['^', 'o', 'k', '$', '^o', 'ok', 'k$', '^ok', 'ok$', '^ok$']
    """
    marked = f"^{text}$"
    return [marked[at : at + n] for n in range(1, _LONGEST + 1) for at in range(len(marked) - n + 1)]


def initial_params() -> Array:
    """Return the parameters of a model that knows nothing: all ratings are equally likely for every token."""
    nothing: Array = np.zeros((BUCKETS + 1) * len(RATINGS))
    return nothing


def predict(features: Array, params: Any) -> Any:
    """Return the mean valence that the model expects, one per row."""
    return np.dot(np.exp(_logprobs(features, params)), RATINGS)


def squared_error(batch: Batch, params: Any) -> tuple[Any, Mapping[str, Any]]:
    """Compute the base loss: the mean squared distance from the mean rating, with the mean distance beside it."""
    distance = predict(batch.features, params) - batch.valence
    return np.mean(distance**2), {"mean_absolute_error": np.mean(np.abs(distance))}


def unsure(batch: Batch, params: Any) -> tuple[Any, Mapping[str, Any]]:
    """Penalize predictions that are too sure of one rating: see `regularizers.entropy`."""
    return entropy(batch, _logprobs(batch.features, params))


def _logprobs(features: Array, params: Any) -> Any:
    # The last row of the matrix is the bias.
    matrix = np.reshape(params, (BUCKETS + 1, len(RATINGS)))
    return log_softmax(np.dot(features, matrix[:-1]) + matrix[-1])
