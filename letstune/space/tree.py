"""The search space as a tree of distributions.

A `Space` is what samplers see and what the journal keeps. A space that is read back from there
needs none of the user's code, and builds `RecordedParams`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.distributions import Constant, Distribution, OneOf, from_dict
from letstune.space.encoding import decode, plain
from letstune.space.recorded_params import ParamsLike, RecordedParams, dumps

if TYPE_CHECKING:
    import numpy as np

# Not a string, which could not be looked up where `Space` goes by its public name.
Node: TypeAlias = Union[Distribution, "Space"]
Choose: TypeAlias = Callable[[str, Distribution], Any]


@public("letstune")
@dataclass(frozen=True, eq=False)
class Space:
    """The parameters of a `Params` class: a tree of named distributions.

    Attributes:
        name: of the class.
        fields: (name, distribution or nested space) in the order of declaration.
        custom: whether the class has its own `get_random_params`, so that `fields` do not tell
            how the params come about.
        tagged: the fields whose nested params carry the name of their class in JSON.
        cls: the class, or None for a space that was read from JSON.
    """

    name: str
    fields: tuple[tuple[str, Node], ...]
    custom: bool = False
    tagged: tuple[str, ...] = ()
    cls: Any = field(default=None, repr=False)  # of Params, which are declared further up

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __str__(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes."""
        return {
            "kind": "space",
            "name": self.name,
            "custom": self.custom,
            "tagged": list(self.tagged),
            "fields": {name: node.to_dict() for name, node in self.fields},
        }

    def to_json(self) -> str:
        """Return the space as JSON text."""
        return dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Space:
        """Return the space, without its class, that `to_json` described.

        Raises:
            SpaceError: the text describes no space.
        """
        try:
            node = _node_from_dict(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpaceError(f"{text!r} describes no search space: {error}") from error
        if isinstance(node, Space):
            return node
        raise SpaceError(f"{text!r} describes {node}, expected a search space.")

    def require_structure(self, who: str) -> None:
        """Refuse a space that is not fully described by its distributions.

        Args:
            who: what needs to look at them, for instance "sampler 'grid'".

        Raises:
            SpaceError: this class, or a nested one, defines its own `get_random_params`.
        """
        for space in self._spaces():
            if space.custom:
                raise SpaceError(
                    f"{space.name} defines its own get_random_params, so {who} can't know how "
                    "its params are chosen. Declare distributions instead, or use "
                    "sampler='random'."
                )

    def _spaces(self) -> Iterator[Space]:
        yield self
        pending: list[Any] = [node for _, node in self.fields]
        while pending:
            node = pending.pop(0)
            if isinstance(node, Space):
                yield from node._spaces()
            elif isinstance(node, OneOf):
                pending[:0] = node.candidates

    def distributions(self) -> dict[str, Distribution]:
        """Return all distributions that `build` may ever ask for, by path, in order.

        Two candidates of the same name share their paths; only one of them is ever active.
        """
        found: dict[str, Distribution] = {}

        def walk(node: Any, path: str, below: str) -> None:
            if isinstance(node, Space):
                for name, inner in node.fields:
                    walk(inner, below + name, f"{below}{name}.")
            elif not isinstance(node, Constant):
                found.setdefault(path, node)
                if isinstance(node, OneOf):
                    for index, candidate in enumerate(node.candidates):
                        walk(candidate, *branch(path, node, index))

        walk(self, "", "")
        return found

    @property
    def size(self) -> int | None:
        """The number of points; None if there are infinitely many, or nobody can know it."""
        product = 1
        for _, node in self.fields:
            size = node.size
            if self.custom or size is None:
                return None
            product *= size
        return None if self.custom else product

    def point(self, i: int) -> ParamsLike:
        """Return the i-th params of a finite space; the last field changes fastest.

        Raises:
            SpaceError: the space is not finite, or has no i-th point.
        """
        size = self.size
        if size is None:
            self.require_structure("a grid")
            raise SpaceError(
                f"{self.name} has infinitely many points, so it has no number {i}. Give its "
                "continuous parameters a step, or use rand.oneof."
            )
        if not 0 <= i < size:
            raise SpaceError(f"{self.name} has {size} points, counted from 0; it has no {i}.")
        values = {}
        for name, node in reversed(self.fields):
            i, rest = divmod(i, node.size or 1)
            values[name] = node.point(rest)
        return self._make({name: values[name] for name, _ in self.fields})

    def build(self, choose: Choose) -> ParamsLike:
        """Return params, with every active parameter chosen by a function.

        Args:
            choose: called depth first, in the order of the fields, with the dotted path of a
                parameter and its distribution. It returns the value or, for a `OneOf`, the index of
                a candidate. What is inside that candidate is asked for next, under a path such as
                "model.Linear.alpha" or "gamma[1]". Constants are not asked for.

        Returns:
            An instance of the class, or `RecordedParams` if the space has no class.

        Raises:
            SpaceError: a class defines its own `get_random_params`, or an index is out of range.
        """
        self.require_structure("Space.build")
        return self._build(choose, "")

    def sample(self, rng: np.random.Generator) -> ParamsLike:
        """Return random params, the same for the same state of `rng`.

        Raises:
            SpaceError: the class defines its own `get_random_params`, and either it is not at hand,
                or that method returned something else.
        """
        if not self.custom:
            return self.sample_fields(rng)
        if self.cls is None:
            raise SpaceError(
                f"{self.name} defines its own get_random_params, and was read from a journal "
                "without its class. Import the class and use its space()."
            )
        params: ParamsLike = self.cls.get_random_params(rng)
        if type(params) is not self.cls:
            raise SpaceError(
                f"{self.name}.get_random_params returned {params!r}, expected an instance of "
                f"{self.name}; end it with return cls(...)."
            )
        return params

    def sample_fields(self, rng: np.random.Generator) -> ParamsLike:
        """Return random params by the distributions, even if the class samples by itself.

        Its own `get_random_params` gets them from ``super()``.
        """
        return self._build(lambda _, distribution: distribution.sample(rng), "", rng)

    def _build(
        self, choose: Choose, prefix: str, rng: np.random.Generator | None = None
    ) -> ParamsLike:
        def walk(node: Any, path: str, below: str) -> Any:
            if isinstance(node, Space):
                custom = rng is not None and node.custom
                return node.sample(cast(Any, rng)) if custom else node._build(choose, below, rng)
            if isinstance(node, Constant):
                return node.value
            chosen = plain(choose(path, node))
            if not isinstance(node, OneOf):
                # In a space without its class, nothing else would make it a float.
                return float(chosen) if node.produces is float and type(chosen) is int else chosen
            if type(chosen) is not int or not 0 <= chosen < len(node.candidates):
                raise SpaceError(
                    f"{self.name}: {chosen!r} was chosen for {path}, expected the index of one "
                    f"of the {len(node.candidates)} candidates of {node}."
                )
            return walk(node.candidates[chosen], *branch(path, node, chosen))

        return self._make(
            {name: walk(node, prefix + name, f"{prefix}{name}.") for name, node in self.fields}
        )

    def _make(self, values: dict[str, Any]) -> ParamsLike:
        if self.cls is None:
            return RecordedParams(self.name, values, self.tagged)
        params: ParamsLike = self.cls(**values)
        return params

    def contains(self, params: object) -> bool:
        """Return whether `sample` could return these params, as far as the distributions tell."""
        return self._names(params) and all(
            node.contains(getattr(params, name)) for name, node in self.fields
        )

    def stray(self, params: object) -> str:
        """Return, in words, the first field that no sample of this space could have; "" if none is.

        Of a class with its own `get_random_params`, nobody knows what it returns.
        """
        if self.custom or self.contains(params):
            return ""
        if not self._names(params):
            return f"a {type(params).__qualname__}, expected a {self.name}"
        for name, node in self.fields:
            value = getattr(params, name)
            inner = node.candidates if isinstance(node, OneOf) else [node]
            below = [n for n in inner if isinstance(n, Space) and n._names(value)]
            if below and (stray := below[0].stray(value)):
                return f"{name}.{stray}"
            if not below and not node.contains(value):
                return f"{name} is {value!r:.100}, expected one of {node}"
        return ""

    def _names(self, params: object) -> bool:
        if self.cls is not None:
            return type(params) is self.cls
        return isinstance(params, RecordedParams) and params._name == self.name

    def choices(self, params: ParamsLike) -> dict[str, Any]:
        """Return the choices from which `build` builds these params: the value for each path.

        If several candidates of a `OneOf` could have led there, the first one is returned.

        Raises:
            SpaceError: no choices lead to these params, or a class has its own
                `get_random_params`.
        """
        self.require_structure("Space.choices")
        if not self._names(params):
            params = self.decode(params.to_json())
        chosen: dict[str, Any] = {}
        self._collect(params, "", chosen)
        return chosen

    def _collect(self, params: Any, prefix: str, chosen: dict[str, Any]) -> None:
        def walk(node: Any, value: Any, path: str, below: str) -> None:
            if isinstance(node, Space):
                node._collect(value, below, chosen)
            elif isinstance(node, OneOf):
                fits = [i for i, candidate in enumerate(node.candidates) if _fits(candidate, value)]
                if not fits:
                    raise SpaceError(f"{self.name}.{path} is {value!r}, expected one of {node}.")
                chosen[path] = fits[0]
                walk(node.candidates[fits[0]], value, *branch(path, node, fits[0]))
            elif not isinstance(node, Constant):
                chosen[path] = value
            elif not node.contains(value):
                raise SpaceError(f"{self.name}.{path} is {value!r}, expected the constant {node}.")

        for name, node in self.fields:
            walk(node, getattr(params, name), prefix + name, f"{prefix}{name}.")

    def decode(self, text: str) -> ParamsLike:
        """Return the params that `Params.to_json` wrote: of the class, or recorded ones.

        Raises:
            SpaceError: the text is not JSON of such params.
        """
        if self.cls is not None:
            params: ParamsLike = self.cls.from_json(text)
            return params
        try:
            return self._record(json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise SpaceError(
                f"{self.name}: {text!r:.200} is not JSON of params: {error}"
            ) from error

    def _record(self, data: dict[str, Any]) -> RecordedParams:
        nodes = dict(self.fields)
        if unexpected := data.keys() ^ nodes.keys():
            raise SpaceError(f"unknown or missing: {', '.join(sorted(unexpected))}")
        return RecordedParams(
            self.name,
            {name: _record_value(nodes[name], value) for name, value in data.items()},
            self.tagged,
        )

    def diff(self, other: Space) -> list[str]:
        """Return what differs in another space, one line for each path; [] if they are equal.

        >>> from letstune.rand import Ints
        >>> Space("P", (("a", Ints(1, 2)),)).diff(Space("P", (("a", Ints(1, 3)),)))
        ['a: was ints(1, 2), is ints(1, 3)']
        """
        lines = list(_differences(self, other, ""))
        if not lines and self != other:
            lines = [f"{self.name}: was {self.to_json()}, is {other.to_json()}"]
        return lines


def _node_from_dict(data: Any) -> Any:
    if data.get("kind") != "space":
        return from_dict(data, _node_from_dict)
    return Space(
        data["name"],
        tuple((name, _node_from_dict(node)) for name, node in data["fields"].items()),
        data["custom"],
        tuple(data["tagged"]),
    )


def branch(path: str, node: OneOf, index: int) -> tuple[str, str]:
    """Return the paths of a candidate itself, and of what is below it."""
    candidate = node.candidates[index]
    if isinstance(candidate, Space):
        return path, f"{path}.{candidate.name}."
    return f"{path}[{index}]", f"{path}[{index}]."


def _fits(node: Any, value: Any) -> bool:
    # Only by name: in params made by hand, a value out of range still belongs to its branch.
    if isinstance(node, Space):
        return node._names(value)
    if isinstance(node, OneOf):
        return any(_fits(candidate, value) for candidate in node.candidates)
    return cast(bool, node.contains(value))


def _record_value(node: Any, data: Any) -> Any:
    if not isinstance(data, dict) or "$float" in data:
        return decode(data)
    name = None
    if "$type" in data:
        data = dict(data)
        name = data.pop("$type")
        node = next((s for s in Space("", (("", node),))._spaces() if s.name == name), None)
    if isinstance(node, Space):
        return node._record(data)
    # Params made by hand may be of a class that the space doesn't lead to.
    values = {key: _record_value(None, value) for key, value in data.items()}
    tagged = tuple(
        key for key, value in data.items() if isinstance(value, dict) and "$type" in value
    )
    return RecordedParams(name or "Params", values, tagged)


def _differences(was: Any, now: Any, path: str) -> Iterator[str]:
    """Yield what differs from one node to another, both at the path."""
    if isinstance(was, Space) and isinstance(now, Space) and (not path or was.name == now.name):
        if was.name != now.name:
            yield f"name: was {was.name}, is {now.name}"
        if was.custom != now.custom:
            ways = {False: "by the distributions", True: "by its own get_random_params"}
            yield f"{path or was.name}: was sampled {ways[was.custom]}, is {ways[now.custom]}"
        before, after = dict(was.fields), dict(now.fields)
        prefix = f"{path}." if path else ""
        for name, node in was.fields:
            if name in after:
                yield from _differences(node, after[name], prefix + name)
            else:
                yield f"{prefix}{name}: removed"
        yield from (f"{prefix}{name}: added" for name in after if name not in before)
        if set(before) == set(after) and list(before) != list(after):
            order = f"was {', '.join(before)}, is {', '.join(after)}"
            yield f"order of {path or was.name}: {order}"
    elif isinstance(was, OneOf) and isinstance(now, OneOf) and str(was) == str(now):
        for index, (old, new) in enumerate(zip(was.candidates, now.candidates, strict=True)):
            branch = f"{path}.{old.name}" if isinstance(old, Space) else f"{path}[{index}]"
            yield from _differences(old, new, branch)
    elif str(was) != str(now):
        yield f"{path}: was {was}, is {now}"
