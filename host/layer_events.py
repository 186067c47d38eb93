"""Hardware events of every layer, from a profile that counted them kernel by kernel."""

from __future__ import annotations

from protos.values import Counter, Profile

# layer -> event -> events of one inference
Events = dict[str, dict[str, float]]


def layer_events(profile: Profile) -> Events:
    """Return the events of every layer; one that some kernel of a layer lacks is left out."""
    found: Events = {}
    for kernel in profile.kernels:
        repeats = len(kernel.samples_ns)
        own = {c.name: _counted(c) / repeats for c in kernel.counters if c.running_ns}
        known = found.get(kernel.layer)
        if known is None:
            found[kernel.layer] = own
        else:
            found[kernel.layer] = {name: known[name] + own[name] for name in known if name in own}
    found.pop("", None)
    return found


def _counted(counter: Counter) -> float:
    """Return a count, scaled up where the kernel multiplexed the counter."""
    return counter.value * counter.enabled_ns / counter.running_ns
