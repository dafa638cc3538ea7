"""``hhmnet serve``: a trained model behind HTTP, with a page for the browser."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
from functools import partial

from hhmnet.commands.flags import Flags
from hhmnet.commands.terminal import Parser, UsageError, console
from hhmnet.serving import Limits

TOKEN_VARIABLE = "HHMNET_SERVE_TOKEN"
_SHORTEST_TOKEN = 16
_LOCAL = "127.0.0.1"
_GRACE_SECONDS = 5
_BACKLOG = 128


def main(words: list[str]) -> int:
    """Run the command; returns its exit code when the server was told to end."""
    flags = Flags("hhmnet serve", Limits)
    parser = _parser(flags)
    options, rest = parser.parse_known_args(words)
    (limits,) = flags.read(rest, parser.names)
    is_local = _is_local(options.host)
    _check_token(options.token, is_local, options.host)
    try:
        import uvicorn

        from hhmnet.serving.access import LOCAL_HOSTS, bounded_protocol
        from hhmnet.serving.app import create_app
        from hhmnet.serving.workers import load

        app = create_app(
            partial(load, str(options.model), options.device, limits.videos),
            limits,
            options.token,
            (*LOCAL_HOSTS, options.host) if is_local else None,
            page=not options.no_page,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hhmnet"):
            raise
        raise UsageError(f"{error.name} isn't installed; pip install 'hhmnet[serve]'") from None
    listening = _listen(options.host, options.port)
    log = console()
    with listening:
        log.print(f"loading {options.model}")
        app.state.workers.start()  # meanwhile requests wait
        address, port = listening.getsockname()[:2]
        place = f"[{address}]" if ":" in address else address
        log.print(f"http://{place}:{port} is ready; Ctrl-C ends it")
        config = uvicorn.Config(
            app,
            http=bounded_protocol(limits),
            log_level="warning",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        try:
            uvicorn.Server(config).run([listening])
        except KeyboardInterrupt:  # the way to end a server
            log.print("ended")
        finally:
            app.state.workers.stop()
    return 0


def _parser(flags: Flags) -> Parser:
    parser = Parser(
        "hhmnet serve",
        "Answer over HTTP, with a page for the browser: drop a video or use the webcam.",
        flags.format_help,
        usage="hhmnet serve MODEL [options] [--field value ...]",
    )
    parser.add_shared("model", "device")
    add = parser.add_argument
    add("--port", type=_port, default=8000, metavar="N", help="port, 0 for any that is free (default: 8000)")
    host = f"address to listen at (default: {_LOCAL}, which only this computer reaches); others need --token"
    add("--host", default=_LOCAL, metavar="ADDRESS", help=host)
    token = f"what clients must send as `Authorization: Bearer TEXT` (default: ${TOKEN_VARIABLE})"
    add("--token", default=os.environ.get(TOKEN_VARIABLE), metavar="TEXT", help=token)
    add("--no-page", action="store_true", help="the HTTP API alone")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 0 to 65535")
    return int(text)


def _check_token(token: str | None, is_local: bool, host: str) -> None:
    """Raise UsageError for a bad token, or where one is needed."""
    if token is None and not is_local:
        raise UsageError(
            f"--host {host} can be reached from other computers: give a --token, such as one made by "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if token is not None and not re.fullmatch(rf"[!-~]{{{_SHORTEST_TOKEN},}}", token):
        raise UsageError(f"a token has {_SHORTEST_TOKEN} characters or more: ASCII, without spaces")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """A socket at an address; raises UsageError if it can't be had, before a model is loaded in vain."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        kind, *_, where = found[0]
        listening = socket.socket(kind, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(_BACKLOG)  # from here on a client waits where it would be refused
    except (OSError, UnicodeError) as error:  # a part of a host's name may be too long to be encoded
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"can't listen at {host} port {port}: {reason}") from None
    return listening
