"""Who answers a request: from the model that was asked for to an exact policy version. In memory."""

from dataclasses import dataclass, field

from serving.errors import UnknownModel
from serving.fleet import Fleet, Wanted
from serving.registry import BASE, Aliases, Registry, Version, number_of

ANY = "policy"


@dataclass(frozen=True, slots=True)
class View:
    """The registry as this gateway last saw it."""

    aliases: Aliases = field(default_factory=Aliases)
    versions: dict[str, Version] = field(default_factory=dict)


class Router:
    def __init__(self, fleet: Fleet) -> None:
        self.view = View()
        self._fleet = fleet

    def resolve(self, model: str) -> str:
        """The policy version that answers for `policy` or for an exact name. Raises UnknownModel."""
        if model == ANY:
            return self.view.aliases.champion
        if model not in self.view.versions:
            raise UnknownModel(f"There is no model {model!r}. Send {ANY!r}, or see GET /v1/models.", "model")
        if not self._is_loaded(model):
            raise UnknownModel(
                f"{model!r} is not loaded just now; an operator can promote or roll back to it. "
                "GET /v1/models lists what is.",
                "model",
            )
        return model

    def pair(self, model: str) -> tuple[str, str]:
        """The versions of a blind pair: the challenger, where there is one, against who would answer."""
        version = self.resolve(model)
        challenger = self.view.aliases.challenger
        if model == ANY and challenger is not None and self._fleet.having(challenger):
            return version, challenger
        return version, version

    def models(self) -> list[str]:
        """`policy` and the versions that can be addressed."""
        loaded = sorted(self._fleet.addressable() & self.view.versions.keys(), key=number_of)
        return [ANY, *loaded]

    def _is_loaded(self, version: str) -> bool:
        in_use = (self.view.aliases.champion, BASE)
        return version in in_use or version in self._fleet.addressable()


def wanted_versions(view: View, most: int) -> list[str]:
    """The versions that engines keep: who has an alias, then the newest, `most` in all. Without the base."""
    aliases = view.aliases
    named = [aliases.champion, aliases.previous, aliases.challenger]
    newest = sorted(view.versions, key=number_of, reverse=True)
    ordered = dict.fromkeys(name for name in [*named, *newest] if name and name != BASE)
    return [name for name in ordered if name in view.versions][:most]


def wanted(view: View, registry: Registry, most: int) -> dict[str, Wanted]:
    found = {}
    for name in wanted_versions(view, most):
        version = view.versions[name]
        if (path := registry.directory(version)) is not None:
            found[name] = Wanted(name, path, version.probe)
    return found
