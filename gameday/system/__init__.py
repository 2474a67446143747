"""Linux, processes and sockets: nothing here knows a stack or a test."""
