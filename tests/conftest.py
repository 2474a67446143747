"""What all tests share: the running stack (stackfixture.py), suites (suites.py), what they take (durations.py)."""

import signal

pytest_plugins = ("tests.durations", "tests.suites", "tests.stackfixture")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell without job control
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests start must be interruptible by them
