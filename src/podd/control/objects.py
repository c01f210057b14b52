"""The methods of io.podd that are about ConfigMaps and Secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from podd.control.dispatch import Context, Method
from podd.control.messages import Parameters
from podd.model.objects import Kind, Object, written
from podd.model.value import Value


class Objects(Protocol):
    """What they ask of the engine. namespace None: "default" for a name; all of them where no name is given."""

    async def create_object(self, manifest: str, *, source: str, namespace: str | None) -> Object:
        """The one that the manifest consists of. Raises Invalid: it is wrong; Conflict: there is one of its name."""
        ...

    async def objects(self, kind: Kind, name: str | None, namespace: str | None) -> Sequence[Object]:
        """By namespace and name. Raises NotFound: there is none of that name."""
        ...

    async def delete_object(self, kind: Kind, name: str, namespace: str | None) -> None: ...


class CreateObjectParameters(Parameters):
    manifest: str
    source: str | None = None
    namespace: str | None = None


class OneObject(Parameters):
    kind: Kind
    name: str
    namespace: str | None = None


class SomeObjects(Parameters):
    kind: Kind
    name: str | None = None
    namespace: str | None = None


class ObjectReply(Value):
    document: Mapping[str, Any]


class ObjectsReply(Value):
    documents: Sequence[Mapping[str, Any]]


class Deleted(Value):
    pass


class ObjectMethods:
    def __init__(self, engine: Objects) -> None:
        self._engine = engine

    def table(self) -> dict[str, Method]:
        return {
            "CreateObject": Method(CreateObjectParameters, self._create, changes=True),
            "Objects": Method(SomeObjects, self._objects),
            "DeleteObject": Method(OneObject, self._delete, changes=True),
        }

    async def _create(self, _: Context, asked: CreateObjectParameters) -> ObjectReply:
        source = asked.source or "manifest"
        return ObjectReply(
            document=written(await self._engine.create_object(asked.manifest, source=source, namespace=asked.namespace))
        )

    async def _objects(self, _: Context, asked: SomeObjects) -> ObjectsReply:
        found = await self._engine.objects(asked.kind, asked.name, asked.namespace)
        return ObjectsReply(documents=[written(one) for one in found])

    async def _delete(self, _: Context, asked: OneObject) -> Deleted:
        await self._engine.delete_object(asked.kind, asked.name, asked.namespace)
        return Deleted()
