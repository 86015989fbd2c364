"""Training telemetry: composed losses that report on themselves, and the loop that trains on the lexicon."""

from loguru import logger as _logger

from app.training.catalogue import SCHEMA_VERSION
from app.training.client import HttpError, RequestFailed, Response, TrainingClient
from app.training.custom_loss import custom_loss
from app.training.loop import Training, train
from app.training.metrics import METRICS
from app.training.outputs import BaseLossOutput, CustomLossOutput, RegularizerMetrics, RegularizerOutput
from app.training.regularizers import Regularizer, RegularizerError

__all__ = [
    "METRICS",
    "SCHEMA_VERSION",
    "BaseLossOutput",
    "CustomLossOutput",
    "HttpError",
    "Regularizer",
    "RegularizerError",
    "RegularizerMetrics",
    "RegularizerOutput",
    "RequestFailed",
    "Response",
    "Training",
    "TrainingClient",
    "custom_loss",
    "train",
]

_logger.disable("app.training")
