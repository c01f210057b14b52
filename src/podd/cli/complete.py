"""podd-cli __complete: what could stand at the end of a command line, for the scripts of `podd-cli completion`.

A line is a candidate, or a candidate, a tab and what it means. The last line begins with a colon; see completion.
"""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from podd.cli.connect import connect
from podd.cli.main import COMMANDS, command_parser, global_parser, load
from podd.cli.status import Json, container_names
from podd.cli.words import OBJECT_WORDS, POD_WORDS, Usage, pod_name
from podd.control.client import Client
from podd.errors import PoddError

NO_FILES, FILES = ":", ":files"
ANSWER_S = 2.0  # a daemon that is stuck must not hang the shell
WITH_RESOURCE_WORD = ("get", "describe", "delete", "label", "annotate")
WITH_ONE_POD = ("resize", "logs", "exec", "attach", "debug", "events", "stats", "ns", "tree", "port-forward")


def arguments(parser: ArgumentParser) -> None:
    """The words come after "--"."""


def run(options: Namespace) -> int:
    *before, partial = options.program or [""]
    try:
        candidates = list(Line(before, partial).candidates())
    except (Usage, PoddError):  # nothing is known, and the shell is no place to say why
        candidates = []
    files = FILES in candidates
    for candidate in candidates:
        if candidate != FILES and candidate.startswith(partial):
            print(candidate)
    print(FILES if files else NO_FILES)
    return 0


class Line:
    """A command line up to the word that is being written."""

    def __init__(self, before: Sequence[str], partial: str) -> None:
        self._partial = partial
        self._values: dict[str, str] = {}
        self._words: list[str] = []
        self._open: Action | None = None  # an option whose value is being written
        self._is_program = False
        self._parser: ArgumentParser = global_parser()
        for word in before:
            self._take(word)

    def _take(self, word: str) -> None:
        if self._open:
            self._values[self._open.dest], self._open = word, None
        elif word == "--":
            self._is_program = True
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            action = _options(self._parser).get(name)
            if action and action.nargs is None and equals:
                self._values[action.dest] = value
            elif action and action.nargs is None:
                self._open = action
        else:
            if not self._words:
                self._parser = command_parser(word, load(word))
            self._words.append(word)

    def candidates(self) -> Iterator[str]:
        if self._is_program:
            return
        if self._open:
            yield from self._option_values(self._open)
        elif self._partial.startswith("-"):
            actions = _options(self._parser)
            name, equals, _ = self._partial.partition("=")
            if equals and name in actions:
                yield from (f"{name}={value}" for value in self._option_values(actions[name]))
                return
            yield from (f"{name}\t{action.help}" for name, action in actions.items() if name.startswith("--"))
        elif not self._words:
            yield from (f"{word}\t{summary}" for word, (_, summary) in COMMANDS.items())
        else:
            yield from self._arguments()

    def _option_values(self, action: Action) -> Iterator[str]:
        if action.choices:
            yield from map(str, action.choices)
        elif action.dest in ("filename", "socket", "from_file", "from_env_file"):
            yield FILES
        elif action.dest == "namespace":
            yield from self._namespaces()
        elif action.dest in ("container", "target"):
            yield from self._containers()

    def _arguments(self) -> Iterator[str]:
        command, *given = self._words
        if command == "completion" and not given:
            yield from ("bash", "zsh", "fish")
        elif command in WITH_RESOURCE_WORD:
            if given and given[0] in POD_WORDS:
                yield from self._pods(given[1:])
            elif given and given[0] in OBJECT_WORDS:
                yield from self._objects(OBJECT_WORDS[given[0]], given[1:])
            else:
                yield from () if given else ("pods", "pod", "configmaps", "configmap", "secrets", "secret")
                yield from (f"pod/{name}" for name in self._pods([pod_name(word) for word in given if "/" in word]))
        elif command == "image":
            yield from self._images(given)
        elif command == "create":
            yield from {(): ("configmap", "secret"), ("secret",): ("generic", "docker-registry")}.get(tuple(given), ())
        elif command == "port-forward" and given:
            yield from self._ports()
        elif command in ("stop", "start", "restart", "pause", "resume") or (command in WITH_ONE_POD and not given):
            yield from self._pods(given)

    # ---- what the daemon knows
    def _connect(self) -> Client:
        return connect(Namespace(socket=self._values.get("socket")), timeout_s=ANSWER_S)

    def _pods(self, but: Sequence[str]) -> Iterator[str]:
        with self._connect() as podd:
            pods = podd.call("List", {"namespace": self._values.get("namespace", "default")})["pods"]
        yield from (name for pod in pods if (name := pod["metadata"]["name"]) not in but)

    def _objects(self, kind: str, but: Sequence[str]) -> Iterator[str]:
        with self._connect() as podd:
            asked = {"kind": kind, "name": None, "namespace": self._values.get("namespace", "default")}
            found = podd.call("Objects", asked)["documents"]
        yield from (name for one in found if (name := one["metadata"]["name"]) not in but)

    def _images(self, given: Sequence[str]) -> Iterator[str]:
        if not given:
            yield from ("pull", "list", "inspect", "rm", "prune", "import", "usage")
        elif given[0] in ("inspect", "rm"):
            with self._connect() as podd:
                images = podd.call("Images", {"driver": self._values.get("driver")})["images"]
            yield from (name for image in images for name in image["names"] if name not in given)
        elif given == ["import"]:
            yield FILES

    def _namespaces(self) -> Iterator[str]:
        with self._connect() as podd:
            pods = podd.call("List")["pods"]
        yield from sorted({pod["metadata"]["namespace"] for pod in pods})

    def _containers(self) -> Iterator[str]:
        if len(self._words) >= 2:
            yield from container_names(self._pod())

    def _ports(self) -> Iterator[str]:
        """What the pod says it listens on."""
        for container in self._pod()["spec"]["containers"]:
            for port in container.get("ports", ()):
                if port.get("protocol", "TCP") == "TCP":
                    name = f"\t{port['name']}" if port.get("name") else ""
                    yield f"{port['containerPort']}{name}"

    def _pod(self) -> Json:
        with self._connect() as podd:
            asked = {"name": pod_name(self._words[1]), "namespace": self._values.get("namespace")}
            pod: Json = podd.call("Get", asked)["pod"]
        return pod


def _options(parser: ArgumentParser) -> dict[str, Action]:
    """By every name. argparse has no public way to ask; argcomplete and shtab look here too."""
    return parser._option_string_actions  # noqa: SLF001
