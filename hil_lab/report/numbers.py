"""Numbers as a person reads them, and the interval of a counted share; pure functions."""

from __future__ import annotations

import math

from host.cost import ENERGY, SIZE, Cost

Z95 = 1.959964


def wilson(share: float, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of a binomial share (Wilson's score interval)."""
    if samples <= 0:
        return 0.0, 1.0
    z2 = Z95 * Z95 / samples
    centre = (share + z2 / 2) / (1 + z2)
    half = Z95 / (1 + z2) * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def percent(share: float, digits: int = 2) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.2f} points".replace("-", "\N{MINUS SIGN}")


def ms(value: float) -> str:
    """Write milliseconds with three to four figures."""
    digits = next((d for limit, d in ((0.1, 4), (10, 3), (100, 2)) if value < limit), 1)
    return f"{value:.{digits}f} ms"


def times(value: float, digits: int = 2) -> str:
    """Write a ratio."""
    return f"{value:.{digits}f}\N{MULTIPLICATION SIGN}"


def kilobytes(count: int) -> str:
    """Write bytes as kB or MB (powers of ten)."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def millijoules(value: float) -> str:
    """Write an energy."""
    return f"{value:.3g} mJ"


def cost_words(cost: Cost, value: float) -> str:
    """Write a cost in its unit."""
    if cost is SIZE:
        return kilobytes(round(value))
    return millijoules(value) if cost is ENERGY else ms(value)


def amount(value: float) -> str:
    """Write a count with three figures and a letter for thousands."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def signed(ratio: float) -> str:
    """Write a relative difference in per cent, with its sign."""
    return f"{100 * ratio:+.1f} %".replace("-", "\N{MINUS SIGN}")


def plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Write seconds as a person would say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
