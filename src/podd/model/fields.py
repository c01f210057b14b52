"""How podd treats every field of core/v1 Pod: the one table.

By object, as Kubernetes names its types, then by field. What a row says holds for all that lies below the field; the
objects below an honoured one have rows of their own. A field becomes honoured by getting its place in `podd.model.pod`
and moving its row; a test holds this table against the types there and against Kubernetes' published schemas, so that
no field is in neither. docs/manifest.md shows it.
"""

from __future__ import annotations

from enum import StrEnum

from podd.model.pod import PIDS
from podd.model.value import Value


class Treatment(StrEnum):
    HONOURED = "honoured"
    NO_EFFECT = "no effect"  # accepted with a warning: nothing on one host changes by it
    REFUSED = "refused"  # ignoring it would change what runs, or how securely
    IGNORED = "ignored"  # accepted with a note: written by a server, not by people


class Field(Value):
    treatment: Treatment
    note: str = ""  # honoured: what is particular; no effect, refused: why
    remedy: str = ""
    harmless: tuple[object, ...] = ()  # values that ask for what happens anyway: accepted without a word


def _honoured(note: str = "") -> Field:
    return Field(treatment=Treatment.HONOURED, note=note)


def _no_effect(note: str, *harmless: object) -> Field:
    return Field(treatment=Treatment.NO_EFFECT, note=note, harmless=harmless)


def _refused(note: str, *harmless: object, remedy: str = "") -> Field:
    return Field(treatment=Treatment.REFUSED, note=note, remedy=remedy, harmless=harmless)


def _not_yet(what: str, *harmless: object, remedy: str = "") -> Field:
    return _refused(f"podd does not {what} yet", *harmless, remedy=remedy)


def _ignored(note: str) -> Field:
    return Field(treatment=Treatment.IGNORED, note=note)


_LOOKED_AT = "looked at every 10 s, and the pod evicted that has more"
_NO_CLUSTER = "podd is not a cluster: there is one host and no scheduler"
_NO_ACCOUNTS = "podd is not a cluster: there are no service accounts"
_SERVER = "set by a server"

_POD = {
    "apiVersion": _honoured("v1"),
    "kind": _honoured("Pod; a List is read item by item"),
    "metadata": _honoured(),
    "spec": _honoured(),
    "status": _ignored("podd writes its own"),
}

_OBJECT_META = {
    "name": _honoured(),
    "namespace": _honoured('"default" where it is not given'),
    "labels": _honoured("podd-cli selects by them"),
    "annotations": _honoured("kept and shown"),
    "generateName": _ignored("a pod is called by metadata.name"),
    "finalizers": _no_effect("nothing here would ever lift one: deleting does not wait for it"),
    "ownerReferences": _no_effect("podd deletes a pod when it is told to, not with an owner"),
    "creationTimestamp": _ignored("set by podd"),
    "uid": _ignored("set by podd"),
    "deletionGracePeriodSeconds": _ignored(_SERVER),
    "deletionTimestamp": _ignored(_SERVER),
    "generation": _ignored(_SERVER),
    "managedFields": _ignored(_SERVER),
    "resourceVersion": _ignored(_SERVER),
    "selfLink": _ignored(_SERVER),
}

_POD_SPEC = {
    "containers": _honoured(),
    "volumes": _honoured(),
    "restartPolicy": _honoured(),
    "terminationGracePeriodSeconds": _honoured(),
    "hostname": _honoured("the pod's name, cut to 63 characters, where it is not given; with hostNetwork the host's"),
    "hostnameOverride": _honoured("instead of hostname and subdomain"),
    "subdomain": _honoured("the full name is HOSTNAME.SUBDOMAIN.NAMESPACE.svc.cluster.local, known to /etc/hosts"),
    "setHostnameAsFQDN": _honoured("that name, where there is a subdomain; at most 64 characters"),
    "hostAliases": _honoured("lines of /etc/hosts"),
    "dnsPolicy": _honoured("there is no cluster's DNS: all but None mean the host's, as Default does"),
    "dnsConfig": _honoured(),
    "hostNetwork": _honoured("with it the host's name as well"),
    "hostIPC": _honoured(),
    "hostPID": _honoured(),
    "shareProcessNamespace": _honoured(),
    "securityContext": _honoured(),
    "resources": _honoured("limits of the pod's own cgroup"),
    "os": _honoured("linux"),
    "runtimeClassName": _honoured("the name of a driver, or of a runtime class of podd.toml"),
    "initContainers": _honoured("those with restartPolicy Always are sidecars"),
    "activeDeadlineSeconds": _honoured(),
    "ephemeralContainers": _refused("they are added to a pod that runs", remedy="podd-cli debug adds one"),
    "readinessGates": _refused("nothing here would ever set the condition: the pod would never be ready"),
    "schedulingGates": _refused("nothing here would ever lift one: the pod would never start"),
    "resourceClaims": _refused("podd allocates no devices"),
    "overhead": _not_yet("add an overhead to the pod's limits"),
    "hostUsers": _not_yet("make user namespaces", True),
    "imagePullSecrets": _honoured("Secrets of the types kubernetes.io/dockerconfigjson and dockercfg"),
    "affinity": _no_effect(_NO_CLUSTER),
    "nodeName": _no_effect(_NO_CLUSTER, ""),
    "nodeSelector": _no_effect(_NO_CLUSTER),
    "preemptionPolicy": _no_effect(_NO_CLUSTER, "PreemptLowerPriority"),
    "priority": _no_effect(_NO_CLUSTER, "0"),
    "priorityClassName": _no_effect(_NO_CLUSTER, ""),
    "schedulerName": _no_effect(_NO_CLUSTER, "", "default-scheduler"),
    "schedulingGroup": _no_effect(_NO_CLUSTER),
    "workloadRef": _no_effect(_NO_CLUSTER),
    "tolerations": _no_effect(_NO_CLUSTER),
    "topologySpreadConstraints": _no_effect(_NO_CLUSTER),
    "evictionResponders": _no_effect("podd asks nobody before it evicts a pod"),
    "enableServiceLinks": _no_effect("podd is not a cluster: there are no services", True, False),
    "automountServiceAccountToken": _no_effect(_NO_ACCOUNTS, False),
    "serviceAccount": _no_effect(_NO_ACCOUNTS, "", "default"),
    "serviceAccountName": _no_effect(_NO_ACCOUNTS, "", "default"),
}

_CONTAINER = {
    "name": _honoured(),
    "image": _honoured("of a registry, a file or another store of the host; rootfs:/directory"),
    "imagePullPolicy": _honoured("of no meaning for rootfs: images"),
    "command": _honoured("$(NAME) is expanded"),
    "args": _honoured("$(NAME) is expanded"),
    "env": _honoured("the environment starts empty"),
    "workingDir": _honoured(),
    "ports": _honoured("every port of a pod can be reached; those with a hostPort from outside, too"),
    "resources": _honoured(),
    "securityContext": _honoured(),
    "stdin": _honoured(),
    "stdinOnce": _honoured(),
    "tty": _honoured(),
    "volumeMounts": _honoured(),
    "envFrom": _honoured("before env, which may refer to it; every key is the name of a variable"),
    "lifecycle": _honoured(),
    "livenessProbe": _honoured(),
    "readinessProbe": _honoured(),
    "startupProbe": _honoured(),
    "restartPolicy": _honoured("of init containers: Always makes a sidecar of it"),
    "restartPolicyRules": _honoured("at most 20, with the action Restart"),
    "terminationMessagePath": _honoured(
        "a file of the container's own, mounted there; not below /dev where that is the host's, as of a privileged one"
    ),
    "terminationMessagePolicy": _honoured(),
    "volumeDevices": _refused("podd attaches no block devices", remedy="mount the device by a hostPath volume"),
    "resizePolicy": _honoured("of podd-cli resize, and of a changed manifest that is applied"),
}

_NO_STORAGE = _refused("podd attaches no storage systems", remedy="mount it on the host and use hostPath")

_VOLUME = {
    "name": _honoured(),
    "emptyDir": _honoured(),
    "hostPath": _honoured(),
    "configMap": _honoured("read-only; files follow the object while the pod runs"),
    "secret": _honoured("as configMap; in memory alone"),
    "downwardAPI": _honoured("read-only; files follow labels, annotations and limits"),
    "projected": _honoured("as its sources"),
    "image": _not_yet("mount images"),
    "gitRepo": _refused("podd does not clone repositories", remedy="clone into a directory and use hostPath"),
    **dict.fromkeys(
        [
            *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "ephemeral", "fc"),
            *("flexVolume", "flocker", "gcePersistentDisk", "glusterfs", "iscsi", "nfs", "persistentVolumeClaim"),
            *("photonPersistentDisk", "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume"),
        ],
        _NO_STORAGE,
    ),
}

_NO_LSM = {
    "appArmorProfile": _not_yet("set AppArmor profiles", {"type": "Unconfined"}),
    "seLinuxOptions": _not_yet("set SELinux labels", {}),
    "windowsOptions": _refused("podd runs Linux programs", {}),
}

_SECURITY_CONTEXT = {
    "allowPrivilegeEscalation": _honoured("false sets no_new_privs"),
    "capabilities": _honoured("added to and dropped from podd's default set"),
    "privileged": _honoured(),
    "procMount": _honoured("Unmasked needs hostUsers: false, which podd does not do yet"),
    "readOnlyRootFilesystem": _honoured(),
    "runAsGroup": _honoured(),
    "runAsNonRoot": _honoured(),
    "runAsUser": _honoured(),
    "seccompProfile": _honoured("RuntimeDefault where nothing is asked"),
    **_NO_LSM,
}

_POD_SECURITY_CONTEXT = {
    "fsGroup": _honoured("of emptyDir volumes and files that podd writes; a supplemental group of every member"),
    "fsGroupChangePolicy": _honoured("such a volume is new with its pod: both policies do the same"),
    "runAsGroup": _honoured(),
    "runAsNonRoot": _honoured(),
    "runAsUser": _honoured(),
    "seccompProfile": _honoured("RuntimeDefault where nothing is asked"),
    "supplementalGroups": _honoured(),
    "sysctls": _honoured("those of the pod's own net and ipc namespaces"),
    "supplementalGroupsPolicy": _not_yet("choose how the groups of an image count", "Merge"),
    "seLinuxChangePolicy": _not_yet("set SELinux labels"),
    **_NO_LSM,
}

_PROBED_HOST = "reached from the pod's network; without it, the pod itself"

_USER = _not_yet("give files of a volume an owner", remedy="runAsUser with fsGroup lets a user read them")

FIELDS: dict[str, dict[str, Field]] = {
    "Pod": _POD,
    "ObjectMeta": _OBJECT_META,
    "PodSpec": _POD_SPEC,
    "PodOS": {"name": _honoured()},
    "PodSecurityContext": _POD_SECURITY_CONTEXT,
    "Sysctl": {"name": _honoured(), "value": _honoured()},
    "Container": _CONTAINER,
    "EnvVar": {
        "name": _honoured(),
        "value": _honoured("$(NAME) of an earlier variable is expanded"),
        "valueFrom": _honoured("taken when the container is created"),
    },
    "ContainerPort": {
        "containerPort": _honoured(),
        "name": _honoured("probes and hooks may use it"),
        "protocol": _honoured("of a hostPort"),
        "hostPort": _honoured("led to the pod; can change while it runs. With hostNetwork equal to containerPort"),
        "hostIP": _honoured("every address of the host where it is not given"),
    },
    "LocalObjectReference": {"name": _honoured()},
    "HostAlias": {"ip": _honoured(), "hostnames": _honoured()},
    "PodDNSConfig": {
        "nameservers": _honoured("at most 3, with the host's"),
        "searches": _honoured("at most 32, of 2048 characters together, with the host's"),
        "options": _honoured("over the host's of the same name"),
    },
    "PodDNSConfigOption": {"name": _honoured(), "value": _honoured()},
    "ResourceRequirements": {
        "limits": _honoured("cpu, memory, podd.io/pids"),
        "requests": _honoured("cpu, memory"),
        "claims": _refused("podd allocates no devices"),
    },
    "SecurityContext": _SECURITY_CONTEXT,
    "Capabilities": {"add": _honoured(), "drop": _honoured()},
    "SeccompProfile": {
        "type": _honoured(),
        "localhostProfile": _honoured("below <state_dir>/seccomp"),
    },
    "VolumeMount": {
        "name": _honoured(),
        "mountPath": _honoured(),
        "readOnly": _honoured(),
        "mountPropagation": _honoured("from a shared mount of the host; Bidirectional in privileged containers alone"),
        "recursiveReadOnly": _honoured("IfPossible does the same as Enabled"),
        "bindMountOptions": _not_yet("set options of a mount"),
        "subPath": _honoured("never leaves the volume; does not follow changes of files that podd writes"),
        "subPathExpr": _honoured("$(NAME) of the container's own variables; as subPath"),
    },
    "Volume": _VOLUME,
    "EmptyDirVolumeSource": {
        "medium": _honoured(),
        "sizeLimit": _honoured(f"in memory a bound. On disk {_LOOKED_AT}"),
        "mode": _not_yet("set the mode of a volume"),
    },
    "HostPathVolumeSource": {"path": _honoured(), "type": _honoured()},
    "ObjectFieldSelector": {
        "fieldPath": _honoured("spec.serviceAccountName is default; an address that the pod does not have is empty"),
        "apiVersion": _honoured("v1"),
    },
    "ResourceFieldSelector": {
        "resource": _honoured("of cpu, memory, ephemeral-storage; without a limit the pod's, else what the host has"),
        "containerName": _honoured(),
        "divisor": _honoured(),
    },
    "EnvVarSource": {
        "fieldRef": _honoured(),
        "resourceFieldRef": _honoured(),
        "configMapKeyRef": _honoured(),
        "secretKeyRef": _honoured(),
        "fileKeyRef": _not_yet("read variables from files of a volume"),
    },
    "ConfigMapKeySelector": {"key": _honoured(), "name": _honoured(), "optional": _honoured()},
    "SecretKeySelector": {"key": _honoured(), "name": _honoured(), "optional": _honoured()},
    "EnvFromSource": {"prefix": _honoured(), "configMapRef": _honoured(), "secretRef": _honoured()},
    "ConfigMapEnvSource": {"name": _honoured(), "optional": _honoured()},
    "SecretEnvSource": {"name": _honoured(), "optional": _honoured()},
    "Probe": {
        "exec": _honoured(),
        "httpGet": _honoured(),
        "tcpSocket": _honoured(),
        "grpc": _honoured(),
        "initialDelaySeconds": _honoured(),
        "timeoutSeconds": _honoured("0 means 1"),
        "periodSeconds": _honoured("0 means 10"),
        "successThreshold": _honoured("0 means 1"),
        "failureThreshold": _honoured("0 means 3"),
        "terminationGracePeriodSeconds": _honoured("not of readiness probes"),
    },
    "ExecAction": {"command": _honoured("not by a shell")},
    "HTTPGetAction": {
        "port": _honoured("or the name of one of the container's"),
        "path": _honoured(),
        "host": _honoured(_PROBED_HOST),
        "scheme": _honoured("HTTPS is not verified"),
        "httpHeaders": _honoured(),
        "protocol": _not_yet("probe by other protocols than HTTP/1.1", "HTTP1"),
    },
    "HTTPHeader": {"name": _honoured(), "value": _honoured()},
    "TCPSocketAction": {
        "port": _honoured("or the name of one of the container's"),
        "host": _honoured(_PROBED_HOST),
    },
    "GRPCAction": {
        "port": _honoured(),
        "service": _honoured(),
        "mode": _not_yet("probe gRPC through TLS", "Plaintext"),
    },
    "SleepAction": {"seconds": _honoured()},
    "Lifecycle": {"postStart": _honoured(), "preStop": _honoured(), "stopSignal": _honoured("needs os.name")},
    "LifecycleHandler": {
        "exec": _honoured(),
        "httpGet": _honoured("any answer is a success"),
        "tcpSocket": _honoured("connects; a kubelet takes it, and fails it when it runs"),
        "sleep": _honoured(),
    },
    "ContainerRestartRule": {"action": _honoured(), "exitCodes": _honoured()},
    "ContainerRestartRuleOnExitCodes": {"operator": _honoured(), "values": _honoured()},
    "ContainerResizePolicy": {"resourceName": _honoured(), "restartPolicy": _honoured()},
    "KeyToPath": {"key": _honoured(), "path": _honoured(), "mode": _honoured(), "user": _USER},
    "ConfigMapVolumeSource": {
        "defaultUser": _USER,
        "name": _honoured(),
        "items": _honoured(),
        "defaultMode": _honoured(),
        "optional": _honoured(),
    },
    "SecretVolumeSource": {
        "defaultUser": _USER,
        "secretName": _honoured(),
        "items": _honoured(),
        "defaultMode": _honoured(),
        "optional": _honoured(),
    },
    "DownwardAPIVolumeSource": {"items": _honoured(), "defaultMode": _honoured(), "defaultUser": _USER},
    "DownwardAPIVolumeFile": {
        "path": _honoured(),
        "fieldRef": _honoured(),
        "resourceFieldRef": _honoured(),
        "mode": _honoured(),
        "user": _USER,
    },
    "ProjectedVolumeSource": {"sources": _honoured(), "defaultMode": _honoured(), "defaultUser": _USER},
    "VolumeProjection": {
        "configMap": _honoured(),
        "secret": _honoured(),
        "downwardAPI": _honoured(),
        "serviceAccountToken": _refused(
            _NO_ACCOUNTS, remedy="a kube-api-access volume and its mounts were added by a cluster: remove them"
        ),
        "clusterTrustBundle": _refused(_NO_CLUSTER),
        "podCertificate": _refused(_NO_CLUSTER),
    },
    "ConfigMapProjection": {"name": _honoured(), "items": _honoured(), "optional": _honoured()},
    "SecretProjection": {"name": _honoured(), "items": _honoured(), "optional": _honoured()},
    "DownwardAPIProjection": {"items": _honoured()},
}

_OBJECT = {
    "apiVersion": _honoured("v1"),
    "kind": _honoured(),
    "metadata": _honoured(),
    "immutable": _honoured("its contents never change again, and neither does this: delete it to replace it"),
}

OBJECTS: dict[str, dict[str, Field]] = {
    "ConfigMap": {**_OBJECT, "data": _honoured(), "binaryData": _honoured("base64")},
    "Secret": {
        **_OBJECT,
        "type": _honoured("the keys that Kubernetes wants of its own types are wanted here too"),
        "data": _honoured("base64"),
        "stringData": _honoured("becomes part of data"),
    },
}
"""Of the documents beside Pods."""

ROWS = FIELDS | OBJECTS

SECURITY = frozenset(
    (
        *("SecurityContext", "PodSecurityContext", "Capabilities", "SeccompProfile", "Sysctl"),
        *("PodSpec.securityContext", "Container.securityContext", "PodSpec.hostUsers", "PodSpec.runtimeClassName"),
        *("PodSpec.hostNetwork", "PodSpec.hostPID", "PodSpec.hostIPC", "PodSpec.shareProcessNamespace"),
        *("VolumeMount.readOnly", "VolumeMount.recursiveReadOnly", "VolumeMount.bindMountOptions"),
        *("VolumeMount.mountPropagation", "EmptyDirVolumeSource.mode"),
        *("KeyToPath.user", "KeyToPath.mode", "DownwardAPIVolumeFile.user", "DownwardAPIVolumeFile.mode"),
        *(
            f"{kind}VolumeSource.{name}"
            for kind in ("ConfigMap", "Secret", "DownwardAPI", "Projected")
            for name in ("defaultMode", "defaultUser")
        ),
    )
)
"""Objects, and fields of others, that say what a program may do or who may read a file. A pod without one of them would
be less secure than its author thinks, so no one can ask podd to leave them out."""

SECURITY_NAMES = frozenset(
    (*(name for kind in SECURITY for name in FIELDS.get(kind, ())), *(each.rpartition(".")[2] for each in SECURITY))
) - {"name", "type", "value"}


def is_security(kind: str, name: str) -> bool:
    return kind in SECURITY or f"{kind}.{name}" in SECURITY


RESOURCES: dict[str, Field] = {
    "cpu": _honoured(),
    "memory": _honoured(),
    PIDS: _honoured("podd's own: how many processes"),
    "ephemeral-storage": _honoured(f"{_LOOKED_AT}; counted are root file systems, logs and emptyDirs on disk"),
    "hugepages-<size>": _refused(
        "podd counts no huge pages", remedy="leave it out: a program may map what the host has reserved"
    ),
}
"""By resource name. One that is not here is refused: podd has no device plugins."""


KINDS: dict[str, str] = {
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "PodTemplate"),
        "write its template (metadata and spec) as a Pod",
    ),
    "Job": "write its template as a Pod: with restartPolicy Never it is tried once, with OnFailure until it succeeds",
    "CronJob": "write its job's template as a Pod and start it from a systemd timer",
    **dict.fromkeys(
        ("Service", "Endpoints", "EndpointSlice", "NetworkPolicy"),
        "there is no cluster network: members of a pod meet on localhost, and hostPort leads a port of the host to it",
    ),
    **dict.fromkeys(
        ("Ingress", "IngressClass", "Gateway", "GatewayClass", "HTTPRoute"),
        "run a proxy as a pod with hostPort, or with hostNetwork",
    ),
    **dict.fromkeys(
        ("PersistentVolume", "PersistentVolumeClaim", "StorageClass", "VolumeAttributesClass", "VolumeSnapshot"),
        "use a hostPath volume",
    ),
    **dict.fromkeys(
        ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
        f"remove it: {_NO_ACCOUNTS}",
    ),
    "Namespace": "remove it: a namespace is there as soon as a pod names it",
    "RuntimeClass": "runtime classes stand in podd.toml; a pod names one by runtimeClassName",
    "PriorityClass": f"remove it: {_NO_CLUSTER}",
    "PodDisruptionBudget": "remove it: podd evicts nothing",
    **dict.fromkeys(
        ("HorizontalPodAutoscaler", "VerticalPodAutoscaler"),
        "remove it: podd runs what it is given",
    ),
    **dict.fromkeys(("LimitRange", "ResourceQuota"), "give each pod its requests and limits"),
    **dict.fromkeys(
        (
            *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "MutatingAdmissionPolicy"),
            *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
        ),
        "a plugin of podd admits pods by the hook podd_admit",
    ),
    "CustomResourceDefinition": "podd has no controllers: what one would make of it is to be written as Pods",
    **dict.fromkeys(("Node", "Event", "Lease", "Binding", "APIService"), "remove it: a server keeps such objects"),
    "Kustomization": "kubectl kustomize DIRECTORY | podd-cli apply -f - reads what it makes",
}
"""Kinds that podd refuses, and what it offers instead."""
