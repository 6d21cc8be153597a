"""The error of a request that was not answered."""


class Unreachable(Exception):
    """The server did not answer, or its answer cannot be used. The message is the reason."""
