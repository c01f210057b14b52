"""The files of a pod that tell it its own name, its neighbours and whom to ask for others.

/etc/hostname, /etc/hosts and /etc/resolv.conf are one of each for all members, which mount them. They are written
before the first member is there, and then are the members' own: what is there is never written again.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from podd.driver.contract import Dns, HostAlias, SandboxConfig
from podd.errors import Invalid, Unavailable
from podd.shim.files import write_new

MAX_BYTES = 1 << 20  # of a file of the host; no resolver reads that much
MAX_SERVERS, MAX_SEARCHES, MAX_SEARCH_TEXT = 3, 32, 2048

HEADER = "# written by podd, for this pod alone\n"
LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


class Sources(NamedTuple):
    """Where the host's own lie. upstream: whom systemd-resolved asks, where the first names only its own stub."""

    hosts: str = "/etc/hosts"
    resolv_conf: str = "/etc/resolv.conf"
    upstream: str = "/run/systemd/resolve/resolv.conf"


OF_HOST = Sources()


def make(directory: str, config: SandboxConfig, ips: Sequence[str], sources: Sources = OF_HOST) -> list[str]:
    """Write those that are not there, in a directory that nobody else reaches; what could not be as on the host.

    Blocks. ips: of the pod. Raises Unavailable: they cannot be written; Invalid: a name or address would be two.
    """
    of_host = config.namespaces.net == "node"
    names = config.hostname or os.uname().nodename
    aliases = alias_lines(config.host_aliases)
    own = (_read(sources.hosts) or HEADER + LOCAL) if of_host else hosts(names, config.domain, ips)
    resolver, notes = resolv_conf(config.dns, _resolver_of_host(sources, of_host=of_host), of_host=of_host)
    files = {"hostname": f"{names}\n", "hosts": _ended(own) + aliases, "resolv.conf": resolver}
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        for name, text in files.items():
            if text:
                with suppress(FileExistsError):
                    write_new(f"{directory}/{name}", text, 0o644)
    except OSError as exc:
        raise Unavailable(f"sandbox {config.id}: {exc.filename or directory}: {exc.strerror}") from exc
    return notes


# ---- /etc/hosts ------------------------------------------------------------------------------------------------------


def hosts(hostname: str, domain: str, ips: Sequence[str]) -> str:
    """Of a pod with a network of its own; one without an address finds itself all the same."""
    short = hostname.removesuffix(f".{domain}") if domain else hostname
    names = [f"{short}.{domain}", short] if domain else [short]
    if hostname not in names:
        names.insert(0, hostname)
    lines = (_line(ip, *names) for ip in ips or ("127.0.0.1",))
    return HEADER + LOCAL + "".join(lines)


def alias_lines(aliases: Iterable[HostAlias]) -> str:
    lines = "".join(_line(alias.ip, *alias.names) for alias in aliases)
    return f"# of hostAliases\n{lines}" if lines else ""


def _line(*words: str) -> str:
    return "\t".join(map(_word, words)) + "\n"


def _word(text: str) -> str:
    """Raises Invalid: it would be read as more than one, or as none."""
    if not text or any(char.isspace() or not char.isprintable() for char in text) or text[0] in "#;":
        raise Invalid(f"{text!r}: is not one word of a file of names")
    return text


# ---- /etc/resolv.conf ------------------------------------------------------------------------------------------------


class Resolver(NamedTuple):
    """What such a file says."""

    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


def parse(text: str) -> Resolver:
    """As resolv.conf(5): of several lists of domains the last counts. What else there is means nothing to a pod."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *domains]:
                searches = domains
            case ["options", *more]:
                options += more
    return Resolver(servers, searches, options)


def resolv_conf(dns: Dns, host: str | None, *, of_host: bool) -> tuple[str, list[str]]:
    """The file, and what of it is not as was asked. host: the host's own; None: it has none.

    "": there is nothing to say, and the one of the image stays. of_host: the pod has the host's network, too.
    """
    if of_host and dns.of_host and not (dns.servers or dns.searches or dns.options):
        return host or "", []
    notes = []
    asked = parse(host or "") if dns.of_host else Resolver()
    reached = [server for server in asked.servers if of_host or not _is_loopback(server)]
    if lost := sorted(set(asked.servers) - set(reached)):
        notes.append(f"nameserver {', '.join(lost)} of the host: cannot be reached from a pod's own network")
    servers = _unique((*reached, *dns.servers))
    searches = list(_within(_unique((*asked.searches, *dns.searches))))
    if len(servers) > MAX_SERVERS:
        notes.append(f"nameserver {', '.join(servers[MAX_SERVERS:])}: more than {MAX_SERVERS} are not asked")
    options = {option.partition(":")[0]: option for option in (*asked.options, *dns.options)}
    lines = [f"nameserver {_word(server)}\n" for server in servers[:MAX_SERVERS]]
    if searches:
        lines.append(f"search {' '.join(map(_word, searches))}\n")
    if options:
        lines.append(f"options {' '.join(map(_word, options.values()))}\n")
    return (HEADER + "".join(lines) if lines or host is not None else ""), notes


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _within(searches: Sequence[str]) -> Iterator[str]:
    """As many as a resolver reads."""
    room = MAX_SEARCH_TEXT + 1
    for search in searches[:MAX_SEARCHES]:
        room -= len(search) + 1
        if room < 0:
            return
        yield search


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


# ---- of the host -----------------------------------------------------------------------------------------------------


def _resolver_of_host(sources: Sources, *, of_host: bool) -> str | None:
    """A pod with a network of its own does not reach a stub on the host's loopback: it asks whom that one asks."""
    text = _read(sources.resolv_conf)
    servers = parse(text or "").servers
    if not of_host and servers and all(map(_is_loopback, servers)):
        return _read(sources.upstream) or text
    return text


def _read(path: str) -> str | None:
    """None: there is none, or it is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return file.read(MAX_BYTES).decode(errors="replace")


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"
