"""Tells people what gameday does and finds, and silences the alerts that its own faults cause."""
