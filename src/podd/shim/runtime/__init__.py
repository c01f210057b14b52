"""Containers that an OCI runtime makes: runc, crun, or another program with runc's command line.

The shim stays the parent of all that runs: the runtime makes a process and ends, and the keeper, being a subreaper, is
given the orphan. `config` words a plan as the OCI runtime specification has it, `bundle` lays out what the runtime is
given, `command` runs it and understands its errors, `gate` releases what it holds; `container` and `execs` put that in
the place of `podd.shim.stage`. Namespaces, cgroups, root file system, volumes, output, exits: all as without a runtime.
"""
