"""A feed handler that works until it is started a second time; then it is up, answers, and serves nothing."""

import http.server
import os
import sys
from pathlib import Path

from compose import supervisor
from pipelines.trades import handler

MARK = Path(os.environ[supervisor.MARK]) / "was-here"
"""In the stack's state folder."""


class Healthy(http.server.BaseHTTPRequestHandler):
    """Says that all is well."""

    def do_GET(self) -> None:
        body = b'{"ok": true, "connected": true, "connects": 1, "last_ids": {}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


if MARK.exists():
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Healthy).serve_forever()
MARK.touch()
sys.exit(handler.main())
