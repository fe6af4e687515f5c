"""The environment and streams of this process, read once at the command's entry."""

from __future__ import annotations

import os
import sys

from mesafs.base.clock import SystemClock
from mesafs.cli.context import Context
from mesafs.cli.output import Output


def context() -> Context:
    """The surroundings in which a command really runs."""
    return Context(os.environ, Output(sys.stdout, sys.stderr), SystemClock())
