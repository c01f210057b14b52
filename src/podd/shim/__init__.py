"""The supervisor of one pod: a small process that is the parent of the pod's containers and outlives podd.

Standard library and `podd.linux` only, imported once in the zygote (`zygote`), frozen, and shared by every shim that is
forked from it. `plan` has what crosses the socket; `stage` is what runs between fork and exec of a container;
`supervisor` is the loop; `logs`, `attach` move bytes; `sweep` removes what a dead shim left.
"""
