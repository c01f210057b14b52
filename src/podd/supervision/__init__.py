"""The daemon's side of pods that have a shim: what drivers that let `podd.shim` supervise their pods have in common.

`driver.ShimDriver` is such a driver but for two things that each says for itself: whether it can work on this host, and
what a container's plan has of its own. Everything else is here: the zygote and the connections to shims (`zygote`,
`peer`, `link`), the sandboxes in hand and their end (`sandboxes`), plans (`plans`), what is on the host (`host`,
`inspect`), the handles that the core stores (`handles`), the section of the configuration (`section`).
"""
