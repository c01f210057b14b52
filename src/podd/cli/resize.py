"""podd-cli resize: change what a container may use, while it runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from podd.cli.connect import connect
from podd.cli.status import Json
from podd.cli.words import Usage, pod_name

AMOUNTS = {  # option: what it changes, and of which resource
    "cpu": ("limits", "cpu"),
    "memory": ("limits", "memory"),
    "cpu_request": ("requests", "cpu"),
    "memory_request": ("requests", "memory"),
}


def arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "The container is not restarted, unless its resizePolicy says so. 'podd-cli apply' changes it again."
    )
    parser.add_argument("pod", metavar="POD", help="NAME, pod/NAME, or the beginning of a uid")
    parser.add_argument("-c", "--container", metavar="C", help="which one, in a pod of several")
    parser.add_argument("--cpu", metavar="AMOUNT", help='the limit: processors ("1.5") or millicores ("250m")')
    parser.add_argument("--memory", metavar="AMOUNT", help='the limit: bytes, or "64Mi", "1G" and the like')
    parser.add_argument("--cpu-request", metavar="AMOUNT", help="its share where processors are scarce")
    parser.add_argument("--memory-request", metavar="AMOUNT", help="what makes it safer where memory is scarce")


def run(options: Namespace) -> int:
    asked: dict[str, dict[str, str]] = {"limits": {}, "requests": {}}
    for option, (kind, resource) in AMOUNTS.items():
        amount = getattr(options, option)
        if amount is not None:
            asked[kind][resource] = amount
    if not any(asked.values()):
        raise Usage("an amount is missing: give --cpu, --memory, --cpu-request or --memory-request")
    names = {"name": pod_name(options.pod), "namespace": options.namespace, "container": options.container}
    with connect(options) as podd:
        pod: Json = podd.call("Resize", {**names, **asked})["pod"]
    print(f"pod/{pod['metadata']['name']} resized")
    return 0
