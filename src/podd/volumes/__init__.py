"""A pod's volumes on the host: made before its first container, removed after its last.

    <state_dir>/volumes/<pod uid>/<volume name>     emptyDir: a directory, or a tmpfs mounted on one
                                                    configMap, secret, downwardAPI, projected: a tmpfs, read-only

Synchronous, for a worker thread; a pod's volumes are worked on by one caller at a time. What a container could have
written into a volume is never trusted: nothing here follows a symbolic link out of one or crosses a mount inside one.
"""

from podd.volumes.making import prepare, update
from podd.volumes.removal import remove, remove_directory, sweep

__all__ = ["prepare", "remove", "remove_directory", "sweep", "update"]
