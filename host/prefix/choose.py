"""Which cuts of a network are worth their memory; knows sizes and costs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from host.prefix.calls import Cut


def worth_keeping(
    cuts: Sequence[Cut], macs: Mapping[int, int], limit_bytes: int
) -> tuple[Cut, ...]:
    """Return the cuts, in order, that save most within so many bytes per image.

    `macs` are those of the layer at every place. What a set of cuts saves is the mean, over the
    layers that a policy might change first, of the work before the last cut up to that layer. Cuts
    are taken greedily, by work saved per byte; outputs that two cuts read are counted once.
    """
    saved = dict.fromkeys(macs, 0)  # by the place of the first layer that changes
    chosen: list[Cut] = []
    held: dict[str, int] = {}
    left = list(cuts)
    while left:
        cut = max(left, key=lambda c: _gain(c, saved, macs) / (_more(c, held) + 1))
        left.remove(cut)
        if sum(held.values()) + _more(cut, held) <= limit_bytes and _gain(cut, saved, macs):
            chosen.append(cut)
            held |= cut.sizes_bytes
            saved |= _work_after(cut, saved, macs)
    return tuple(sorted(chosen, key=lambda cut: cut.place))


def _gain(cut: Cut, saved: Mapping[int, int], macs: Mapping[int, int]) -> int:
    after = _work_after(cut, saved, macs)
    return sum(work - saved[place] for place, work in after.items())


def _work_after(cut: Cut, saved: Mapping[int, int], macs: Mapping[int, int]) -> dict[int, int]:
    """Return what is saved with one cut more, where that is more than before."""
    work = sum(m for place, m in macs.items() if place < cut.place)
    return {at: work for at, had in saved.items() if at >= cut.place and work > had}


def _more(cut: Cut, held: Mapping[str, int]) -> int:
    return sum(size for module, size in cut.sizes_bytes.items() if module not in held)
