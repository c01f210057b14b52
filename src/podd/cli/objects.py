"""ConfigMaps and Secrets on the command line: what get, describe and delete do with them."""

from __future__ import annotations

from argparse import Namespace
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from podd.cli import durations, output
from podd.cli.connect import connect
from podd.cli.layout import fields
from podd.cli.status import Json
from podd.cli.text import Table, clean, complain, note
from podd.cli.words import SECRET, Usage, listed_namespace
from podd.control.client import Client
from podd.errors import NotFound, PoddError

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The whole object once more, as kubectl has left it there: of a Secret with all that it holds."""


# ---- get -------------------------------------------------------------------------------------------------------------


def get(options: Namespace, kind: str, names: Sequence[str]) -> int:
    if options.selector or options.watch:
        raise Usage(f"--selector and --watch: not for a {kind}")
    if names and options.all_namespaces:
        raise Usage("a name does not go with --all-namespaces")
    found, status = _fetch(options, kind, names)
    if options.output in (None, "wide"):
        if found:
            print("\n".join(_table(found, kind, options).lines()))
        elif not status:
            where = "" if options.all_namespaces else f" in namespace {listed_namespace(options)}"
            note(f"no {kind.lower()}s{where}")
    elif options.output == "name":
        for one in found:
            print(f"{kind.lower()}/{one['metadata']['name']}")
    elif found or not status:
        output.pods(found, options.output, one=len(names) == 1)
    return status


def _fetch(options: Namespace, kind: str, names: Sequence[str]) -> tuple[list[Json], int]:
    found: list[Json] = []
    status = 0
    with connect(options) as podd:
        wanted: Sequence[str | None] = names or [None]
        for name in wanted:
            namespace = options.namespace if name else listed_namespace(options)
            try:
                found += podd.call("Objects", {"kind": kind, "name": name, "namespace": namespace})["documents"]
            except PoddError as refusal:
                if name is None:
                    raise
                status = complain(str(refusal))
    return found, status


def _table(found: Sequence[Json], kind: str, options: Namespace) -> Table:
    columns = (*(["NAMESPACE"] if options.all_namespaces else []), "NAME")
    table = Table((*columns, *(["TYPE"] if kind == SECRET else []), "DATA", "AGE"))
    now = datetime.now(UTC)
    for one in found:
        table.add(*_row(one, kind, options, now))
    return table


def _row(one: Json, kind: str, options: Namespace, now: datetime) -> Iterator[str]:
    meta = one["metadata"]
    if options.all_namespaces:
        yield meta.get("namespace", "default")
    yield meta["name"]
    if kind == SECRET:
        yield one.get("type", "Opaque")
    yield str(len(one.get("data", {})) + len(one.get("binaryData", {})))
    yield durations.age(meta.get("creationTimestamp"), now)


# ---- describe --------------------------------------------------------------------------------------------------------


def describe(options: Namespace, kind: str, names: Sequence[str]) -> int:
    found, status = _fetch(options, kind, names)
    for number, one in enumerate(found):
        print("\n".join([*([""] if number else []), *_lines(one, kind)]))
    return status


def _lines(one: Json, kind: str) -> Iterator[str]:
    """Of a Secret no more than how long its values are."""
    meta = one["metadata"]
    told: Json = {
        "Name": meta["name"],
        "Namespace": meta.get("namespace", "default"),
        "Labels": meta.get("labels", {}),
        "Annotations": {key: text for key, text in meta.get("annotations", {}).items() if key != LAST_APPLIED},
    }
    if kind == SECRET:
        told["Type"] = one.get("type", "Opaque")
    if one.get("immutable"):
        told["Immutable"] = "true"
    yield from fields(told, columns=14)
    yield from ("", "Data", "====")
    for key, text in sorted(one.get("data", {}).items()):
        if kind == SECRET:
            yield f"{key}: {len(a2b_base64(text))} bytes"
        else:
            yield from (f"{key}:", "----", *map(clean, text.splitlines()), "")
    for key, text in sorted(one.get("binaryData", {}).items()):
        yield f"{key}: {len(a2b_base64(text))} bytes"


# ---- delete ----------------------------------------------------------------------------------------------------------


def delete(options: Namespace, kind: str, names: Sequence[str]) -> int:
    if bool(names) == options.all:
        raise Usage(f"name what to delete, or all of them with '{kind.lower()}s --all'")
    status = 0
    with connect(options) as podd:
        if options.all:
            listed = podd.call("Objects", {"kind": kind, "name": None, "namespace": listed_namespace(options)})
            chosen = [(one["metadata"]["name"], one["metadata"]["namespace"]) for one in listed["documents"]]
        else:
            chosen = [(name, options.namespace) for name in names]
        for name, namespace in chosen:
            status = max(status, forget(podd, options, kind, name, namespace))
    return status


def forget(podd: Client, options: Namespace, kind: str, name: str, namespace: str | None) -> int:
    """Have one deleted, and say so. The exit status."""
    try:
        podd.call("DeleteObject", {"kind": kind, "name": name, "namespace": namespace})
    except PoddError as refusal:
        if options.ignore_not_found and isinstance(refusal, NotFound):
            return 0
        return complain(str(refusal))
    print(f"{kind.lower()}/{name} deleted", flush=True)
    return 0
