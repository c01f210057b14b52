#!/bin/sh
# An OCI runtime for dockerd that is runc, but for one thing: a container that joins the network namespace of another
# joins its uts namespace too, for which dockerd has no option. `podd-cli docker setup` tells how dockerd learns of it.
#
# The configuration is one line of JSON as Go writes it: no spaces, and a quote in a string is \", so that what is looked
# for below can be nothing but what it seems. Where it is not found nothing is changed, and podd, which looks at the
# namespaces of what runs, says so. It is done by sed because it is done at every start: an interpreter takes ten times
# as long.
# PODD_RUNC: another runtime than runc.
set -eu
bundle=.
previous=
command=
for word in "$@"; do
    case $previous in
        --bundle | -b) bundle=$word ;;
    esac
    case $word in
        create) command=create ;;
    esac
    previous=$word
done
if [ -n "$command" ]; then
    joined='{"type":"network","path":"/proc/\([0-9][0-9]*\)/ns/net"}'
    pid=$(sed -n "s|.*$joined.*|\1|p" "$bundle/config.json")
    if [ -n "$pid" ]; then
        # The name of the host is the namespace's, from who made it.
        sed -i "/{\"type\":\"uts\"}/ {
            s|{\"type\":\"uts\"}|{\"type\":\"uts\",\"path\":\"/proc/$pid/ns/uts\"}|
            s|,\"hostname\":\"[^\"]*\"||
        }" "$bundle/config.json"
    fi
fi
exec "${PODD_RUNC:-runc}" "$@"
