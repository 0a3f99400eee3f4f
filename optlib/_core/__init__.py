"""The solver contract: results, certificates, the one driver, callbacks, validation and checkpoints."""

from optlib._core.callbacks import progress
from optlib._core.checkpoint import CheckpointError
from optlib._core.driver import Step, Steps, prepare_init, prepare_resume, run, settle
from optlib._core.result import Certificate, ConvergenceError, HaltError, History, Result, Status

__all__ = [
    "Certificate",
    "CheckpointError",
    "ConvergenceError",
    "HaltError",
    "History",
    "Result",
    "Status",
    "Step",
    "Steps",
    "prepare_init",
    "prepare_resume",
    "progress",
    "run",
    "settle",
]
