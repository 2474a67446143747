"""The errors that gameday raises on purpose. Each names the thing, its value and the remedy."""

__all__ = ["Busy", "ConfigError", "DriverError", "GamedayError", "NotUp", "TooLate", "Undelivered"]


class GamedayError(Exception):
    """Anything gameday can explain. `exit_code` is what the command line ends with (design: 2 usage, 3 no verdict)."""

    exit_code = 3


class ConfigError(GamedayError):
    """Bad usage or configuration: nothing was touched."""

    exit_code = 2


class NotUp(GamedayError):
    """The stack, or a server that gameday itself needs, does not answer."""


class TooLate(GamedayError):
    """A state did not come within its bound."""


class Busy(GamedayError):
    """Another run holds the stack."""


class DriverError(GamedayError):
    """A server refused, failed or did not answer.

    `definite` is True when the request certainly had no effect (refused, rejected before it was applied) and False when
    it may have had one (timed out, connection lost after sending); the distinction is Jepsen's :fail and :info.
    """

    def __init__(self, message: str, *, definite: bool) -> None:
        super().__init__(message)
        self.definite = definite


class Undelivered(GamedayError):
    """A channel did not take a message, as far as can be told: it may be there all the same.

    again_s: when the channel asks to be tried again. refused: it will never take this message, but perhaps another.
    """

    def __init__(self, message: str, *, again_s: float | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.again_s = again_s
        self.refused = refused
