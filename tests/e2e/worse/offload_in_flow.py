"""A flow run with one of the offload's defects: python -m tests.e2e.worse.offload_in_flow offload_by_time.

For the variable `command` of a deployment's or a run's job; the worker gives the rest by the environment.
"""

import importlib
import sys

from prefect.cli import app

importlib.import_module(f"tests.e2e.worse.{sys.argv[1]}")
sys.argv = ["prefect", "flow-run", "execute"]
app()
