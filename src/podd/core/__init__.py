"""What podd decides, as pure functions: no await, no clock, no dice, no input or output.

Mechanism, with CRI semantics and nothing of pods: `sandbox`, `container`.
Policy, what makes a Kubernetes Pod of them: `pod`, `restart`, `plan`, `verify`, `status`.
After a restart of podd: `reconcile`.

The engine feeds events to `pod.step`, stores the state that comes back, then performs the actions.
"""
