"""Who answers a request: from the model that was asked for to an exact policy version. In memory."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from serving.completions import ANY
from serving.errors import UnknownModel
from serving.fleet import Fleet, Wanted
from serving.registry import BASE, Aliases, Registry, Version, number_of
from serving.releases import Trial


@dataclass(frozen=True, slots=True)
class View:
    """The registry as this gateway last saw it."""

    aliases: Aliases = field(default_factory=Aliases)
    versions: dict[str, Version] = field(default_factory=dict)
    trial: Trial | None = None


class Route(NamedTuple):
    """`trial`: whose draw chose the version, by `Trial.account`."""

    version: str
    trial: str | None = None


class Router:
    def __init__(self, fleet: Fleet) -> None:
        self.view = View()
        self._fleet = fleet

    def resolve(self, model: str, who: Callable[[], str]) -> Route:
        """Who answers for `policy` or for an exact name. Raises UnknownModel.

        While a version is on trial a share of all `who` get it (of a watch, the version before): always the
        same ones. Where no engine has it just now nothing is dealt out: what the champion says to all
        meanwhile is not beside anything.
        """
        if model == ANY:
            trial, champion = self._trial(), self.view.aliases.champion
            if trial is None:
                return Route(champion)
            drawn = draw(who(), trial.key) < trial.share
            return Route(trial.minority if drawn else champion, trial.account)
        if model not in self.view.versions:
            raise UnknownModel(f"There is no model {model!r}. Send {ANY!r}, or see GET /v1/models.", "model")
        if not self._is_loaded(model):
            raise UnknownModel(
                f"{model!r} is not loaded just now; an operator can promote or roll back to it. "
                "GET /v1/models lists what is.",
                "model",
            )
        return Route(model)

    def pair(self, model: str) -> tuple[str, str]:
        """The versions of a blind pair: the two of a trial, where one is on; else who would answer, twice."""
        if model == ANY and (trial := self._trial()) is not None:
            return self.view.aliases.champion, trial.minority
        version = self.resolve(model, lambda: "").version
        return version, version

    def models(self) -> list[str]:
        """`policy` and the versions that can be addressed."""
        loaded = sorted(self._fleet.addressable() & self.view.versions.keys(), key=number_of)
        return [ANY, *loaded]

    def _trial(self) -> Trial | None:
        """What is on trial, if the champion is one of the two and an engine can answer as the other."""
        trial = self.view.trial
        if trial is None or self.view.aliases.champion not in (trial.version, trial.baseline):
            return None
        other = trial.minority
        return trial if other == BASE or self._fleet.having(other) else None

    def _is_loaded(self, version: str) -> bool:
        in_use = (self.view.aliases.champion, BASE)
        return version in in_use or version in self._fleet.addressable()


def draw(who: str, key: str) -> float:
    """From [0, 1), evenly; always the same for the same two."""
    digest = hashlib.blake2b(f"{key}\0{who}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def wanted_versions(view: View, most: int) -> list[str]:
    """The versions that engines keep: who has an alias, then the newest, `most` in all. Without the base."""
    aliases = view.aliases
    trial = view.trial and view.trial.minority
    named = [aliases.champion, trial, aliases.previous, aliases.challenger]
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
