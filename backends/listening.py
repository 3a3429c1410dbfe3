"""A listening socket, for the app and for a model server: bound before anything slow begins."""

import socket


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host`, an IPv4 or IPv6 address; port 0 takes a free one.

    Raises:
        OSError: The port is taken or the address isn't this machine's; says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(
            f"Can't listen on {host}, port {port}: {error.strerror or error}. Is Twopane running "
            "already? Give another --port, or --port 0 for a free one."
        ) from error
