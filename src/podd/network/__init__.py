"""CNI as a container runtime speaks it: which network pods get, the plugins that connect them, and what was done.

`conflist`, `call` and `result` are pure: what a configuration says, what a plugin is told, what it has answered.
`plugins` runs plugins, `journal` keeps what must be undone one day, `network` is what a driver works with.
Source: the Container Network Interface specification 1.1.0, https://www.cni.dev/docs/spec.
"""
