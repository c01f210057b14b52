"""Parts of a manifest in the words of `kubectl describe`: volumes, probes, hooks, and where values come from."""

from __future__ import annotations

from podd.cli.status import Json


def volume(volume: Json) -> dict[str, str | None]:
    """What it is, and what there is to say of that kind."""
    if (empty := volume.get("emptyDir")) is not None:
        medium = "in memory" if empty.get("medium") == "Memory" else "on disk"
        return {"Type": f"emptyDir ({medium}, gone with the pod)", "Size Limit": empty.get("sizeLimit")}
    if (host := volume.get("hostPath")) is not None:
        return {"Type": f"hostPath ({host.get('type') or 'anything'})", "Path": host.get("path")}
    if (config_map := volume.get("configMap")) is not None:
        return {"Type": "configMap", "Name": config_map.get("name"), "Optional": _optional(config_map)}
    if (secret := volume.get("secret")) is not None:
        return {"Type": "secret (in memory)", "Name": secret.get("secretName"), "Optional": _optional(secret)}
    if (downward := volume.get("downwardAPI")) is not None:
        return {"Type": "downwardAPI", "Items": _items(downward)}
    sources = volume.get("projected", {}).get("sources", ())
    return {"Type": "projected", "Sources": "\n".join(map(_projection, sources)) or None}


def _projection(source: Json) -> str:
    if (config_map := source.get("configMap")) is not None:
        return f"configMap {config_map.get('name')}"
    if (secret := source.get("secret")) is not None:
        return f"secret {secret.get('name')}"
    return f"downwardAPI {_items(source.get('downwardAPI', {}))}"


def _items(downward: Json) -> str:
    return ", ".join(f"{_reference(item)} -> {item.get('path')}" for item in downward.get("items", ()))


def _optional(source: Json) -> str:
    return str(bool(source.get("optional"))).lower()


def value(variable: Json) -> str:
    """Of an environment variable: its text, or where it comes from; never what a Secret holds."""
    source = variable.get("valueFrom")
    return f"<{_reference(source)}>" if source else str(variable.get("value", ""))


def _reference(source: Json) -> str:
    if (field := source.get("fieldRef")) is not None:
        return f"field {field.get('fieldPath')}"
    if (resource := source.get("resourceFieldRef")) is not None:
        of = f" of {resource['containerName']}" if resource.get("containerName") else ""
        return f"resource {resource.get('resource')}{of}"
    what = "secret" if source.get("secretKeyRef") else "config map"
    chosen: Json = source.get("secretKeyRef") or source.get("configMapKeyRef") or {}
    optional = ", optional" if chosen.get("optional") else ""
    return f"key {chosen.get('key')} of {what} {chosen.get('name')}{optional}"


def env_from(container: Json) -> list[str]:
    found = []
    for source in container.get("envFrom", ()):
        kind = "ConfigMap" if source.get("configMapRef") is not None else "Secret"
        chosen = source.get("configMapRef") or source.get("secretRef") or {}
        prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
        found.append(f"{chosen.get('name')}  {kind}{prefix}  Optional: {_optional(chosen)}")
    return found


def probes(container: Json) -> dict[str, str]:
    """Probes and hooks, those that it has."""
    kinds = {"Liveness": "livenessProbe", "Readiness": "readinessProbe", "Startup": "startupProbe"}
    found = {title: _probe(container[key]) for title, key in kinds.items() if container.get(key)}
    lifecycle = container.get("lifecycle") or {}
    hooks = {"Post Start": "postStart", "Pre Stop": "preStop"}
    return found | {title: _handler(lifecycle[key]) for title, key in hooks.items() if lifecycle.get(key)}


def _probe(probe: Json) -> str:
    times = {
        "delay": f"{probe.get('initialDelaySeconds', 0)}s",
        "timeout": f"{probe.get('timeoutSeconds', 1)}s",
        "period": f"{probe.get('periodSeconds', 10)}s",
        "#success": probe.get("successThreshold", 1),
        "#failure": probe.get("failureThreshold", 3),
    }
    return " ".join([_handler(probe), *(f"{name}={value}" for name, value in times.items())])


def _handler(handler: Json) -> str:
    if command := handler.get("exec"):
        return f"exec [{' '.join(command.get('command', ()))}]"
    if http := handler.get("httpGet"):
        scheme, host = (http.get("scheme") or "HTTP").lower(), http.get("host", "")
        return f"http-get {scheme}://{host}:{http.get('port')}/{http.get('path', '').removeprefix('/')}"
    if tcp := handler.get("tcpSocket"):
        return f"tcp-socket {tcp.get('host', '')}:{tcp.get('port')}"
    if grpc := handler.get("grpc"):
        return f"grpc <pod>:{grpc.get('port')} {grpc.get('service', '')}".rstrip()
    return f"sleep {handler.get('sleep', {}).get('seconds')}s"


def port(given: Json) -> str:
    """ "80/TCP (http) from 8080 of the host at 192.0.2.1"."""
    name = f" ({given['name']})" if given.get("name") else ""
    where = f" at {given['hostIP']}" if given.get("hostIP") else ""
    host = f" from {given['hostPort']} of the host{where}" if given.get("hostPort") else ""
    return f"{given['containerPort']}/{given.get('protocol', 'TCP')}{name}{host}"
