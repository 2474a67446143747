"""Fixtures shared by all tests; see stackfixture.py for the running stack."""

pytest_plugins = ("tests.stackfixture",)
