"""Supervisors: OTP's rules for starting, restarting and stopping actors."""

from loguru import logger as _logger

from runtime.errors import StartError
from supervisors._restart import RestartRecord
from supervisors.application import Application
from supervisors.child_spec import ChildSpec, check_child_specs
from supervisors.dynamic import DynamicSupervisor
from supervisors.partition import PartitionSupervisor, PartitionSupervisorRef
from supervisors.refs import (
    ChildCounts,
    ChildEntry,
    ChildRestarting,
    ChildRunning,
    DynamicSupervisorRef,
    MaxChildren,
    SupervisorRef,
    SupervisorStatistics,
)
from supervisors.supervisor import Supervisor

__all__ = [
    "Application",
    "ChildCounts",
    "ChildEntry",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "DynamicSupervisor",
    "DynamicSupervisorRef",
    "MaxChildren",
    "PartitionSupervisor",
    "PartitionSupervisorRef",
    "RestartRecord",
    "StartError",
    "Supervisor",
    "SupervisorRef",
    "SupervisorStatistics",
    "check_child_specs",
]

_logger.disable("supervisors")
