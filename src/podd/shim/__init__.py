"""The supervisor of one pod: a small process that is the parent of the pod's containers and outlives podd.

Standard library and `podd.linux` only, imported once in the zygote (`zygote`), frozen, and shared by every shim that is
forked from it. `plan` has what crosses the socket. A shim is two processes: the `keeper` stays and is the parent of all
that runs; it forks an `attendant` whenever there is something to decide. `stage` makes a container's processes;
`logs`, `attach` move bytes; `sweep` removes what a dead shim left.
"""
