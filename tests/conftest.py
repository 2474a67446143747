"""Fixtures shared by all tests; see stackfixture.py for the running stack."""

import signal

pytest_plugins = ("tests.stackfixture",)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell without job control
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests start must be interruptible by them
