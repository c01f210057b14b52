"""What was asked for, from words on the command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

EXIT_INTERRUPTED, EXIT_PIPE = 130, 141  # as of a process that SIGINT or SIGPIPE ended
POD_WORDS = ("pod", "pods", "po")
CONFIG_MAP, SECRET = "ConfigMap", "Secret"
OBJECT_WORDS = {
    **dict.fromkeys(("configmap", "configmaps", "cm"), CONFIG_MAP),
    **dict.fromkeys(("secret", "secrets"), SECRET),
}
"""By resource word, as kubectl has them."""


class Usage(Exception):
    """The command line itself is wrong; nothing was asked of podd. Ends with status 2."""


def pod_name(word: str) -> str:
    """The pod meant by NAME, pod/NAME, or (the beginning of) a uid. Raises Usage: another kind of thing is named."""
    kind, slash, name = word.rpartition("/")
    if slash and kind not in POD_WORDS:
        raise Usage(f"{word}: podd has pods only: write NAME or pod/NAME")
    if not name:
        raise Usage(f"'{word}': a pod's name is missing")
    return name


def pod_names(words: Sequence[str]) -> list[str]:
    """Names after a resource word, as in "pods", "pod a b", "pod/a pod/b". Raises Usage: no resource is named."""
    if words and words[0] in POD_WORDS:
        return [pod_name(word) for word in words[1:]]
    if words and all("/" in word for word in words):
        return [pod_name(word) for word in words]
    named = f"'{words[0]}': not a resource" if words else "a resource is missing"
    raise Usage(f"{named}: podd has pods: write 'pods', 'pod NAME' or 'pod/NAME'")


def object_names(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """Kind and names, of "configmaps", "secret a b" or "secret/a secret/b". None: it is about something else.

    Raises Usage: about both.
    """
    if not words:
        return None
    if words[0] in OBJECT_WORDS:
        kind = OBJECT_WORDS[words[0]]
        return kind, [_object_name(word, kind) for word in words[1:]]
    kinds = {OBJECT_WORDS.get(word.partition("/")[0]) for word in words if "/" in word}
    if kinds.isdisjoint((CONFIG_MAP, SECRET)):
        return None
    (first, *others) = kinds
    if others or first is None or not all("/" in word for word in words):
        raise Usage("one kind at a time: write 'configmap NAME ...', 'secret NAME ...' or 'pod NAME ...'")
    return first, [_object_name(word, first) for word in words]


def _object_name(word: str, kind: str) -> str:
    prefix, slash, name = word.rpartition("/")
    if not name or (slash and OBJECT_WORDS.get(prefix) != kind):
        raise Usage(f"'{word}': not the name of a {kind}")
    return name


def whole_number(text: str) -> int:
    """For argparse: 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"'{text}': not a whole number")
    return int(text)


def add_namespace_options(parser: ArgumentParser) -> None:
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="pods of all namespaces")


def add_pod_choice(parser: ArgumentParser) -> None:
    """One pod, or all of a namespace, or all."""
    parser.add_argument("pod", nargs="?", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid; all without")
    add_namespace_options(parser)


def chosen(options: Namespace) -> dict[str, str | None]:
    """What add_pod_choice's options choose, as the daemon's calls take it."""
    if options.pod is None:
        return {"name": None, "namespace": listed_namespace(options)}
    if options.all_namespaces:
        raise Usage("a pod's name does not go with --all-namespaces")
    return {"name": pod_name(options.pod), "namespace": options.namespace}


def listed_namespace(options: Namespace) -> str | None:
    """The namespace of a list: what -n names, else "default"; None (all) with -A."""
    return None if options.all_namespaces else options.namespace or "default"
