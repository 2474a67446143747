"""The platform made worse on purpose: stand-ins for its processes, each with one defect that gameday must find."""
