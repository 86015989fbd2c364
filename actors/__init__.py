"""Actors: things that live on their own, handle one message at a time and fail alone."""

from loguru import logger as _logger

from actors._actor import Actor
from actors._current import current_actor
from actors._future import Future
from actors._loop import IGNORE, Ignore
from actors._ref import ActorRef
from runtime._process_table import processes, whereis
from runtime.errors import Exit

__all__ = ["IGNORE", "Actor", "ActorRef", "Exit", "Future", "Ignore", "current_actor", "processes", "whereis"]

_logger.disable("actors")
