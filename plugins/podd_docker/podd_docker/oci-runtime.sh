#!/bin/sh
# An OCI runtime for dockerd that is runc, but for one thing: a container that joins the network namespace of another
# joins its uts namespace too, for which dockerd has no option. `podd-cli docker setup` tells how dockerd learns of it.
# PODD_RUNC: another runtime than runc.
set -eu
runc=${PODD_RUNC:-runc}
if [ "${1-}" = --python ]; then
    python=$2
    shift 2
fi
for word in "$@"; do
    if [ "$word" = create ]; then
        "${python:-python3}" -I -S "${0%/*}/oci_bundle.py" "$@"
        break
    fi
done
exec "$runc" "$@"
