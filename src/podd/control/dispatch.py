"""From a decoded call to the method that answers it: names, typed parameters, errors as replies."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from podd.control import errors, wire
from podd.control.wire import Descriptors, Peer
from podd.errors import Internal, PoddError, Unsupported

More = Literal["never", "optional", "required"]


class VarlinkError(Exception):
    """An error of org.varlink.service, by its short name."""

    def __init__(self, name: str, **parameters: str) -> None:
        super().__init__(name, parameters)
        self.name = f"{errors.SERVICE}.{name}"
        self.parameters = parameters


Send = Callable[[bytes, Sequence[int]], Awaitable[None]]


class Context:
    """One call as its method sees it.

    peer: who asks. more: whether it takes many replies. fds: what came with the call; closed when it is over.
    """

    def __init__(self, peer: Peer, *, more: bool, fds: Descriptors, send: Send) -> None:
        self.peer = peer
        self.more = more
        self.fds = fds
        self._send = send
        self._given: list[int] = []

    def give(self, fd: int) -> int:
        """Hand over a descriptor, to leave with the next reply. Returns its index for that reply's parameters."""
        self._given.append(fd)
        return len(self._given) - 1

    async def reply(self, parameters: object) -> None:
        """Send a reply that is not the last one. Nothing is sent to a caller that did not ask for more."""
        if self.more:
            await self.send(wire.encode_reply(parameters, continues=True))

    async def send(self, data: bytes) -> None:
        given, self._given = self._given, []
        try:
            await self._send(data, given)
        finally:
            for fd in given:
                os.close(fd)

    def take_back(self) -> None:
        """Close what was given and did not leave."""
        while self._given:
            os.close(self._given.pop())

    def close(self) -> None:
        """Close every descriptor that is still here."""
        self.fds.close()
        self.take_back()


class Method(NamedTuple):
    """parameters: a msgspec Struct, as the interface declares them; answer's return type is the reply's.

    answer(context, parameters) returns the last reply. more: whether there can be others before it.
    changes: it changes something, so the log tells of it. paced: its source waits for the reader (a file, a process),
    so a reader may pause as long as it likes.
    """

    parameters: type[msgspec.Struct]
    answer: Callable[[Context, Any], Awaitable[object]]
    more: More = "never"
    changes: bool = False
    paced: bool = False


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _InterfaceName(msgspec.Struct, forbid_unknown_fields=True):
    interface: str


class _Description(msgspec.Struct):
    description: str


class _ServiceInfo(msgspec.Struct):
    vendor: str
    product: str
    version: str
    url: str
    interfaces: list[str]


class Service:
    """What is served: interfaces by name, each its .varlink text, and methods by full name."""

    def __init__(self, *, version: str, url: str, interfaces: Mapping[str, str], methods: Mapping[str, Method]) -> None:
        self._interfaces = {errors.SERVICE: SERVICE_DESCRIPTION, **interfaces}
        self._info = _ServiceInfo("podd", "podd", version, url, list(self._interfaces))
        self._methods = {
            f"{errors.SERVICE}.GetInfo": Method(Nothing, self._get_info),
            f"{errors.SERVICE}.GetInterfaceDescription": Method(_InterfaceName, self._get_description),
            **methods,
        }

    def find(self, name: str) -> Method:
        """Raises VarlinkError: InterfaceNotFound, MethodNotFound."""
        if method := self._methods.get(name):
            return method
        interface, _, _ = name.rpartition(".")
        if interface in self._interfaces:
            raise VarlinkError("MethodNotFound", method=name)
        raise VarlinkError("InterfaceNotFound", interface=interface)

    async def _get_info(self, _context: Context, _parameters: Nothing) -> _ServiceInfo:
        return self._info

    async def _get_description(self, _context: Context, asked: _InterfaceName) -> _Description:
        if asked.interface not in self._interfaces:
            raise VarlinkError("InterfaceNotFound", interface=asked.interface)
        return _Description(self._interfaces[asked.interface])


def prepare(service: Service, call: wire.Call) -> tuple[Method, msgspec.Struct]:
    """Find the method and type its parameters. Raises VarlinkError, PoddError."""
    method = service.find(call.method)
    if call.upgrade:
        raise Unsupported(f"{call.method}: upgrade: podd's connections speak Varlink to the end")
    if method.more == "required" and (not call.more or call.oneway):
        raise VarlinkError("ExpectedMore")
    raw = bytes(call.parameters)
    try:
        return method, msgspec.json.decode(b"{}" if raw == b"null" else raw, type=method.parameters)
    except msgspec.ValidationError as exc:
        raise VarlinkError("InvalidParameter", parameter=_parameter_named_in(str(exc))) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise VarlinkError("InvalidParameter", parameter="parameters") from None


def encode_failure(exc: Exception) -> tuple[str, bytes]:
    """The error reply for what a method raised: (its name, the message)."""
    if isinstance(exc, VarlinkError):
        return exc.name, wire.encode_error(exc.name, exc.parameters)
    error = _podd_error(exc) or Internal(
        f"podd: unexpected {type(exc).__name__}", remedy="this is a bug in podd or a plugin: its log has the traceback"
    )
    name = errors.NAMES[error.kind]
    return name, wire.encode_error(name, errors.parameters_of(error))


def is_bug(exc: Exception) -> bool:
    return not isinstance(exc, VarlinkError) and _podd_error(exc) is None


def _podd_error(exc: BaseException) -> PoddError | None:
    """The refusal in it: itself, or the only one in the group that a task group made of it."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc if isinstance(exc, PoddError) else None


_PATH = re.compile(r"at `\$\.?([^.`\[]+)")
_FIELD = re.compile(r"field `([^`]*)`")


def _parameter_named_in(message: str) -> str:
    """The parameter that msgspec's message is about: "Expected `str`, got `int` - at `$.argv[1]`" is argv."""
    found = _PATH.search(message) or _FIELD.search(message)
    return found[1] if found else "parameters"


SERVICE_DESCRIPTION = """\
# The interface that every Varlink service has: what it is, and which interfaces it serves.
interface org.varlink.service

# Who made this service, and the names of its interfaces.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# The text of an interface.
method GetInterfaceDescription(interface: string) -> (description: string)

# There is no such interface here.
error InterfaceNotFound (interface: string)

# The interface has no such method.
error MethodNotFound (method: string)

# The method is declared and not implemented.
error MethodNotImplemented (method: string)

# This parameter is unknown, missing, or of the wrong type.
error InvalidParameter (parameter: string)

# The client may not do this.
error PermissionDenied ()

# The method answers only to calls with "more".
error ExpectedMore ()
"""
