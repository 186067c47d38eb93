"""Hardware events of every layer, from a profile that counted them kernel by kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protos.values import Profile

# layer -> event -> events of one inference
Events = Mapping[str, Mapping[str, float]]


def layer_events(profile: Profile) -> Events:
    """Return the events of every layer in one inference, from counts over all repeats."""
    return summed(
        (
            kernel.layer,
            {
                c.name: c.value / (c.runs or len(kernel.samples_ns))
                for c in kernel.counters
                if c.running_ns
            },
        )
        for kernel in profile.kernels
    )


def summed(kernels: Iterable[tuple[str, Mapping[str, float]]]) -> Events:
    """Add up the events of kernels by layer; one that some kernel of a layer lacks is left out."""
    found: dict[str, Mapping[str, float]] = {}
    for layer, own in kernels:
        known = found.get(layer, own)
        both = {name: known[name] + own[name] for name in known if name in own}
        found[layer] = both if layer in found else own
    return {layer: events for layer, events in found.items() if layer}
