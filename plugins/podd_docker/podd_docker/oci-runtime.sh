#!/bin/sh
# An OCI runtime for dockerd that is runc, but for two things. `podd-cli docker setup` tells how dockerd learns of it.
#
# 1. A container that joins the network namespace of another joins its uts namespace too, for which dockerd has no
#    option. The configuration is one line of JSON as Go writes it: no spaces, and a quote in a string is \", so that what
#    is looked for below can be nothing but what it seems. Where it is not found nothing is changed, and podd, which looks
#    at the namespaces of what runs, says so.
# 2. Where podd has left a mark for it, a container is not started when dockerd says so, once: what was created goes on
#    waiting before its program, and podd lets all members of a pod go at one moment. Without a mark `start` is runc's.
#
# It is done by sh and sed because it is done at every start: an interpreter takes ten times as long.
# PODD_RUNC: another runtime than runc.
set -eu
bundle=.
root=
previous=
command=
for word in "$@"; do
    case $previous in
        --bundle | -b) bundle=$word ;;
        --root) root=$word ;;
    esac
    case $word in
        create | start) command=${command:-$word} ;;
    esac
    previous=$word
done
if [ "$command" = start ] && rm "${root%/*/*}/podd-hold/$word" 2>/dev/null; then
    exit 0
fi
if [ "$command" = create ]; then
    # The name of the host is the namespace's, from who made it.
    sed -i '
        s|\({"type":"network","path":"/proc/\([0-9][0-9]*\)/ns/net"}.*\){"type":"uts"}|\1{"type":"uts","path":"/proc/\2/ns/uts"}|
        t joined
        b
        : joined
        s|,"hostname":"[^"]*"||
    ' "$bundle/config.json"
fi
exec "${PODD_RUNC:-runc}" "$@"
