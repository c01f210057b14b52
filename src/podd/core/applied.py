"""Which labels and annotations of a pod its manifest has given: applied anew without one, it takes back that alone.

What people and programs have set beside it stays, as it does with kubectl's merge of three: what was applied last, what
is there, and what is applied now.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from podd.model.pod import Pod
from podd.model.value import Value


class Applied(Value):
    """The keys, in order."""

    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()


def given_by(asked: Pod) -> Applied:
    return Applied(labels=tuple(sorted(asked.metadata.labels)), annotations=tuple(sorted(asked.metadata.annotations)))


def joined(asked: Pod, there: Pod, last: Applied) -> Pod:
    """What is asked, with what others have set on the pod that is there. last: what its manifest gave before."""
    new, old = asked.metadata, there.metadata
    meta = replace(
        new,
        labels={**_others(old.labels, last.labels), **new.labels},
        annotations={**_others(old.annotations, last.annotations), **new.annotations},
    )
    return replace(asked, metadata=meta)


def _others(there: Mapping[str, str], given: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, value in there.items() if key not in given}
