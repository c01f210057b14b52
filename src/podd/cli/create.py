"""podd-cli create: make a ConfigMap or a Secret of values and files."""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from binascii import b2a_base64
from collections.abc import Iterator

from podd.cli import output
from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.words import CONFIG_MAP, OBJECT_WORDS, SECRET, Usage
from podd.errors import Invalid

REGISTRY, HUB = "docker-registry", "https://index.docker.io/v1/"
DOCKER_CONFIG_JSON, DOCKER_CONFIG_TYPE = ".dockerconfigjson", "kubernetes.io/dockerconfigjson"
TLS = "tls"
TYPES = {"generic": "Opaque", REGISTRY: DOCKER_CONFIG_TYPE, TLS: "kubernetes.io/tls"}
"""Of a Secret, by the word that says what it is of."""

_KEY = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} configmap NAME | secret generic|docker-registry|tls NAME [options]"
    parser.add_argument(
        "words", nargs="+", metavar="configmap NAME", help="or: secret generic|docker-registry|tls NAME"
    )
    parser.add_argument(
        "--from-literal", action="append", default=[], metavar="KEY=VALUE", help="a value; may be repeated"
    )
    parser.add_argument(
        "--from-file",
        action="append",
        default=[],
        metavar="[KEY=]PATH",
        help="a file, by its name or KEY, or the files of a folder; - with a KEY is standard input; may be repeated",
    )
    parser.add_argument(
        "--from-env-file", action="append", default=[], metavar="PATH", help="lines of KEY=VALUE; may be repeated"
    )
    registry = parser.add_argument_group("secret docker-registry")
    registry.add_argument("--docker-server", metavar="HOST", default=HUB, help=f"the registry ({HUB})")
    registry.add_argument("--docker-username", metavar="NAME", help="who may")
    registry.add_argument("--docker-password", metavar="WORD", help="other users of the host may see it here")
    registry.add_argument("--docker-password-stdin", action="store_true", help="the password is on standard input")
    registry.add_argument("--docker-email", metavar="ADDRESS", help="for registries that want one")
    tls = parser.add_argument_group("secret tls")
    tls.add_argument("--cert", metavar="PATH", help="the certificate, and those that vouch for it (PEM)")
    tls.add_argument("--key", metavar="PATH", help="its private key (PEM)")
    parser.add_argument("--type", metavar="TYPE", help="of a secret (Opaque)")
    parser.add_argument("--immutable", action="store_true", help="its contents never change again")
    parser.add_argument("--dry-run", action="store_true", help="show it (as -o says, else YAML), and make nothing")
    output.add_format_option(parser, "name")


def run(options: Namespace) -> int:
    kind, name = _what(options.words)
    document = _document(options, kind, name)
    if options.dry_run:
        _show(document, options.output or "yaml")
        return 0
    with connect(options) as podd:
        asked = {"manifest": json.dumps(document), "source": "create", "namespace": options.namespace}
        made = podd.call("CreateObject", asked)["document"]
    if options.output is None:
        print(f"{kind.lower()}/{name} created")
    else:
        _show(made, options.output)
    return 0


def _what(words: list[str]) -> tuple[str, str]:
    kind = OBJECT_WORDS.get(words[0], "")
    if kind == CONFIG_MAP and len(words) == 2:
        return kind, words[1]
    if kind == SECRET and len(words) == 3 and words[1] in TYPES:
        return kind, words[2]
    raise Usage(f"write 'configmap NAME', or 'secret {'|'.join(TYPES)} NAME'")


def _show(document: Json, format_name: str) -> None:
    if format_name == "name":
        print(f"{document['kind'].lower()}/{document['metadata']['name']}")
    else:
        output.show(document, format_name)


def _document(options: Namespace, kind: str, name: str) -> Json:
    contents: dict[str, bytes] = {}
    word = options.words[1] if kind == SECRET else ""
    for key, content in {REGISTRY: _passwords, TLS: _certificate}.get(word, _contents)(options):
        if not _KEY.fullmatch(key):
            raise Usage(f"'{key}': not a key: letters, digits, '-', '_' and '.' are allowed")
        if key in contents:
            raise Usage(f"'{key}': is given twice")
        contents[key] = content
    metadata = {"name": name, **({"namespace": options.namespace} if options.namespace else {})}
    document: Json = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
    if options.type and kind != SECRET:
        raise Usage("--type: of a secret")
    if kind == SECRET:
        document["type"] = options.type or TYPES[word]
    document |= _data(kind, contents)
    return {**document, "immutable": True} if options.immutable else document


def _data(kind: str, contents: dict[str, bytes]) -> Json:
    encoded = {key: b2a_base64(content, newline=False).decode() for key, content in contents.items()}
    if kind == SECRET:
        return {"data": encoded}
    texts = {key: text for key, content in contents.items() if (text := _text(content)) is not None}
    binary = {key: text for key, text in encoded.items() if key not in texts}
    return {"data": texts, **({"binaryData": binary} if binary else {})}


def _text(content: bytes) -> str | None:
    """None: it is none, or holds what no variable can."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


# ---- what it consists of ---------------------------------------------------------------------------------------------


def _passwords(options: Namespace) -> Iterator[tuple[str, bytes]]:
    """Those of one registry, or the file that `docker login` or `skopeo login` has written."""
    if options.from_literal or options.from_env_file:
        raise Usage("docker-registry: takes --docker-username and a password, or --from-file")
    if options.from_file:
        if options.docker_username or len(options.from_file) > 1:
            raise Usage("--from-file: one file, and no --docker-username")
        yield DOCKER_CONFIG_JSON, _read(options.from_file[0].removeprefix(f"{DOCKER_CONFIG_JSON}="))
        return
    if not options.docker_username or (options.docker_password is None) != options.docker_password_stdin:
        raise Usage("--docker-username, and --docker-password or --docker-password-stdin, are wanted")
    password = sys.stdin.readline().rstrip("\n") if options.docker_password_stdin else options.docker_password
    pair = f"{options.docker_username}:{password}".encode()
    entry = {"username": options.docker_username, "password": password}
    entry |= {"email": options.docker_email} if options.docker_email else {}
    entry["auth"] = b2a_base64(pair, newline=False).decode()
    yield DOCKER_CONFIG_JSON, json.dumps({"auths": {options.docker_server: entry}}).encode()


def _certificate(options: Namespace) -> Iterator[tuple[str, bytes]]:
    if not options.cert or not options.key or options.from_literal or options.from_file or options.from_env_file:
        raise Usage("tls: takes --cert and --key, and no other contents")
    yield "tls.crt", _read(options.cert)
    yield "tls.key", _read(options.key)


def _contents(options: Namespace) -> Iterator[tuple[str, bytes]]:
    """Keys and contents. Raises Usage, OSError."""
    for word in options.from_literal:
        key, equals, value = word.partition("=")
        if not equals:
            raise Usage(f"--from-literal: KEY=VALUE is wanted, and '{key}' is none")
        yield key, os.fsencode(value)
    for word in options.from_file:
        yield from _files(word)
    for path in options.from_env_file:
        yield from _lines(path)


def _files(word: str) -> Iterator[tuple[str, bytes]]:
    key, equals, path = word.rpartition("=")
    if equals and not key:
        raise Usage(f"--from-file: '{word}': the key is missing")
    if path == "-":
        if not key:
            raise Usage("--from-file: standard input needs a key: KEY=-")
        yield key, sys.stdin.buffer.read()
    elif os.path.isdir(path):
        if key:
            raise Usage(f"--from-file: '{word}': a folder has no key: its files have their names")
        for name in sorted(os.listdir(path)):  # as kubectl: its own files, by names that can be keys
            if os.path.isfile(os.path.join(path, name)) and _KEY.fullmatch(name):
                yield name, _read(os.path.join(path, name))
    else:
        yield key or os.path.basename(path), _read(path)


def _lines(path: str) -> Iterator[tuple[str, bytes]]:
    """As kubectl: blank lines and those that begin with # do not count; a name without = is taken from the
    environment; nothing is unquoted."""
    for number, line in enumerate(_read(path).decode("utf-8-sig").splitlines(), 1):
        stripped = line.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        if not equals and key in os.environ:
            value = os.environ[key]
        elif not equals:
            continue
        if not key:
            raise Invalid(f"{path}:{number}: a key is missing")
        yield key, os.fsencode(value)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
