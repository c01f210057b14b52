"""Control groups on v2, v1 and hybrid hosts, seen as one tree.

A `Group` is one node of that tree, whatever number of hierarchies it is made in. `Layout.detect()` says which those
are: the v2 hierarchy wherever there is one (it kills, freezes and tells when a group is empty, even without a single
controller), and for each of cpu, memory and pids the hierarchy that has the controller. A v1 host without v2 gets
freezer and cpuacct in its place.

    layout = Layout.detect()
    pod = layout.group("podd/pods/4f1c")
    pod.create()
    unenforced = pod.apply({"memory_bytes": 64 << 20})
    member = pod.child("web")
    member.create()

Entering is the expensive part. A write to cgroup.procs waits for an RCU grace period (6 to 25 ms on an idle host)
unless another one has just happened; v1's `tasks` and clone3(CLONE_INTO_CGROUP) do not wait. So a child is born in the
v2 group by `fork_into` and then writes b"0" to the v1 files of `entry_fds`, which are `tasks` for that reason.
"""

from podd.linux.cgroup.enter import fork_into
from podd.linux.cgroup.group import Group
from podd.linux.cgroup.knobs import Limits, Usage
from podd.linux.cgroup.layout import Hierarchy, Layout, default_parent, place_supervisors, prepare_parent

__all__ = [
    "Group",
    "Hierarchy",
    "Layout",
    "Limits",
    "Usage",
    "default_parent",
    "fork_into",
    "place_supervisors",
    "prepare_parent",
]
