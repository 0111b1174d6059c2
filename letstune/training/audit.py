"""What `save` and `load` have lost of a trainer: a comparison of what is noted of two of them.

Which differences are wrong, and which are only named where a training comes out differently? Each
of these is a choice between a false alarm and something forgotten that three epochs do not show:

- What is in a `state_dict()` is state, says the object itself. It must be the same, but for the
  settings of an optimizer, which many set anew in each epoch, and for objects that are made anew in
  each.
- Generators, arrays, numbers and texts must be the same unless the next epoch makes them so: what
  one that goes on straight and one that was loaded agree on after another epoch is a cache, or made
  anew.
- But then a number may have been compared with, and put right, by chance: the best loss so far is,
  in an epoch that improves on it. So it is wrong, too, if `load` has left it as `create_model` made
  it, although training has moved it.
- What the next epoch sets before it asks for it has no effect on it, so that is not wrong.
- How long a list is, or which keys a dict has, is wrong only where that makes one of the above
  differ; else it is a record for display, such as past learning rates.
- What two trainings straight on do not agree on, such as times, is no state of the model's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from letstune.training.parts import STATE, Part, Path, Step, spelled

Parts = Mapping[Step, Part]

_COUNTS: Final = {"_step_count", "_get_lr_called_within_step", "_is_initial"}
"""What PyTorch's schedulers keep for their warnings: of one made of `last_epoch`, it differs."""

_RANKS: Final = ("generator", "array", "value", "mapping", "sequence", "object", "opaque")


_OTHER: Final = {"generator": "another", "array": "other numbers", "mapping": "other keys"}
"""What to say of what looks the same, and is not."""


class Unlike(NamedTuple):
    """Where two objects differ: the path, and what is there; None if nothing is."""

    path: Path
    was: Part | None
    now: Part | None

    @property
    def where(self) -> str:
        """The path as a user would write it."""
        return spelled(self.path)

    @property
    def shown(self) -> tuple[str, str]:
        """What was there and what is, for people."""
        if self.was is None or self.now is None:
            return tuple("nothing" if p is None else p.shown for p in self[1:])  # type: ignore[return-value]
        was, now = self.was.shown, self.now.shown
        if was == now and self.was.kind == self.now.kind == "value":
            was, now = (repr(part.key[1]) for part in (self.was, self.now))
        return was, _OTHER.get(self.now.kind, now) if was == now else now

    def __str__(self) -> str:
        if self.now is None:
            return f"{self.where} is missing"
        if self.was is None:
            return f"{self.where} is new"
        was, now = self.shown
        if now == _OTHER.get(self.now.kind):
            return f"{self.where} {'has other keys' if now == 'other keys' else 'differs'}"
        count, _, what = was.partition(" ")
        other, _, same = now.partition(" ")
        if count.isdecimal() and other.isdecimal() and what.rstrip("s") == same.rstrip("s"):
            now = other  # 6 keys became 0
        return f"{self.where}: {was} became {now}"


def unlike(was: Parts, now: Parts) -> list[Unlike]:
    """Return where two objects differ, each part once, however many others share it.

    Args:
        was: the parts of the one.
        now: those of the other.
    """
    return list(_unlike((), was, now, set()))


def _unlike(path: Path, was: Parts, now: Parts, seen: set[tuple[int, int]]) -> Iterator[Unlike]:
    for step in dict.fromkeys([*was, *now]):
        here, before, after = (*path, step), was.get(step), now.get(step)
        if before is None or after is None:
            yield Unlike(here, before, after)
            continue
        if (pair := (id(before), id(after))) in seen:
            continue
        seen.add(pair)
        kinds = {before.kind, after.kind}
        if "opaque" in kinds:
            if "value" in kinds:  # there was one, and now there is none
                yield Unlike(here, before, after)
        elif (
            step == ("call", STATE)
            and kinds == {"mapping"}
            and len(before.parts) == len(after.parts)
        ):
            # By place: Keras names layers by numbers that go on from one model to the next.
            renamed = dict(zip(before.parts, after.parts.values(), strict=True))
            yield from _unlike(here, before.parts, renamed, seen)
        elif len(kinds) > 1 or before.key != after.key:
            yield Unlike(here, before, after)
        else:
            yield from _unlike(here, before.parts, after.parts, seen)


def _at(parts: Parts | None, path: Path) -> Part | None:
    found: Part | None = None
    for step in path:
        if parts is None or (found := parts.get(step)) is None:
            return None
        parts = found.parts
    return found


def _below(path: Path, others: Collection[Path]) -> bool:
    """Tell whether a path leads through one of others, or to one."""
    return any(path[: len(other)] == other for other in others)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is noted of two trainers: one that is trained straight on, and one that was loaded.

    Attributes:
        fresh: the one, after `create_model`.
        trained: the one, after an epoch, which was saved.
        later: the one, after another epoch.
        loaded: the other, after `load`.
        resumed: the other, after another epoch; None if that failed.
    """

    fresh: Parts
    trained: Parts
    later: Parts
    loaded: Parts
    resumed: Parts | None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What came of a comparison.

    Attributes:
        wrong: what `save` or `load` has forgotten.
        suspects: what differs, and need not matter.
        anew: whether all that training has moved is as `create_model` made it.
    """

    wrong: list[Unlike]
    suspects: list[Unlike]
    anew: bool


def audit(
    looks: Looks, noise: Collection[Path] = (), asked: Collection[Path] | None = None
) -> Audit:
    """Return what `save` and `load` have lost.

    Args:
        looks: what is noted.
        noise: what two trainings straight on do not agree on.
        asked: the fields that the next epoch asks for before it sets them; None if that is not
            known.
    """
    found = Audit(wrong=[], suspects=[], anew=_is_anew(looks))
    after = [] if looks.resumed is None else unlike(looks.later, looks.resumed)
    after = [each for each in after if not _below(each.path, noise)]
    for each in sorted(unlike(looks.trained, looks.loaded), key=_rank):
        if _below(each.path, noise):
            continue
        may = asked is None or not fields_of(each, looks).isdisjoint(asked)
        is_wrong = _remains(each, looks, after) or _is_left_out(each, looks)
        if _is_told_state(each, looks) or (may and is_wrong):
            found.wrong.append(each)
        elif may:
            found.suspects.append(each)
    return found


def fields_of(each: Unlike, looks: Looks) -> set[Path]:
    """Return the fields that hold what differs: a loader may have the same generator, too."""
    paths = {each.path}
    if each.was is not None and each.was.kind != "value":
        paths |= set(_paths_to(each.was.identity, (), looks.trained, set()))
    return {path[: _last_field(path) + 1] for path in paths}


def _last_field(path: Path) -> int:
    return max(place for place, (kind, _) in enumerate(path) if kind == "field")


def _paths_to(identity: int, path: Path, parts: Parts, seen: set[int]) -> Iterator[Path]:
    for step, part in parts.items():
        if part.identity == identity:
            yield (*path, step)
        elif part.parts and id(part) not in seen:
            seen.add(id(part))
            yield from _paths_to(identity, (*path, step), part.parts, seen)


def _rank(each: Unlike) -> tuple[bool, int]:
    state = ("call", STATE) in each.path
    return not state, _RANKS.index(each.was.kind if each.was else "opaque")


def _is_told_state(each: Unlike, looks: Looks) -> bool:
    """Tell whether an object says itself that it is in another state."""
    if ("call", STATE) not in each.path or each.was is None or each.now is None:
        return False
    if each.path[-1][1] in _COUNTS or ("key", "param_groups") in each.path:
        return False
    to = each.path[: each.path.index(("call", STATE))]
    before, later = _at(looks.trained, to), _at(looks.later, to)
    return before is not None and later is not None and before.identity == later.identity


def _remains(each: Unlike, looks: Looks, after: list[Unlike]) -> bool:
    """Tell whether a difference, or part of it, is still there after another epoch."""
    still = [other for other in after if _below(other.path, [each.path])]
    return any(_is_state(other, _at(looks.fresh, other.path)) for other in still)


def _is_state(each: Unlike, fresh: Part | None) -> bool:
    """Tell whether what still differs after another epoch is more than a record."""
    was, now = each.was, each.now
    if was is None or now is None or was.kind != now.kind:
        return False
    if was.kind == "array":  # a longer one is a record
        return bool(was.key[:-1] == now.key[:-1])
    if was.kind == "value" and not _is_number(was):
        return fresh is not None and fresh.key == now.key  # a flag; a path differs, as it may
    return was.kind in ("generator", "value")


def _is_left_out(each: Unlike, looks: Looks) -> bool:
    """Tell whether a number is as `create_model` made it, although training has moved it."""
    fresh, was, now = _at(looks.fresh, each.path), each.was, each.now
    if fresh is None or was is None or now is None or each.path[-1][0] != "field":
        return False
    return _is_plain_number(was) and (fresh.kind, fresh.key) == (now.kind, now.key)


def _is_plain_number(part: Part) -> bool:
    return part.kind == "value" and bool(part.key[0] == "number")


def _is_number(part: Part) -> bool:
    return _is_plain_number(part) and not isinstance(part.key[1], bool)


def _is_anew(looks: Looks) -> bool:
    moved = [each for each in unlike(looks.fresh, looks.trained) if _is_array(each)]
    same = [_at(looks.fresh, each.path) for each in moved]
    return bool(moved) and all(
        (part := _at(looks.loaded, each.path)) is not None and fresh and part.key == fresh.key
        for each, fresh in zip(moved, same, strict=True)
    )


def _is_array(each: Unlike) -> bool:
    return each.was is not None and each.now is not None and each.now.kind == "array"


def changed(before: Parts, after: Parts, names: Collection[Any]) -> list[Unlike]:
    """Return what a training has changed of what it found there.

    Args:
        before: what was noted before.
        after: and after.
        names: of the fields that it found.
    """
    return [each for each in unlike(before, after) if each.path[0][1] in names]
