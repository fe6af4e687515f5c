"""Samples of interleaved rounds, and what is made of them: medians, ranges, ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Samples = Mapping[str, Sequence[float | None]]
"""Seconds by target, one for each round; None where a round did not come through."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Of at least one value that came through."""
        known = [value for value in values if value is not None]
        return cls(statistics.median(known), min(known), max(known))

    def shown(self, digits: int = 2, scale: float = 1) -> str:
        """``1.23 (1.10-1.50)``; the median alone where there was one round."""
        median, least, most = (
            f"{value * scale:,.{digits}f}" for value in (self.median, self.least, self.most)
        )
        return median if least == most else f"{median} ({least}-{most})"


def ratios(samples: Samples, subject: str, baseline: str) -> list[float]:
    """The subject's time over the baseline's, each within one round in which both came through."""
    pairs = zip(samples[subject], samples[baseline], strict=True)
    return [own / base for own, base in pairs if own is not None and base]


def interleave(
    targets: Sequence[str], rounds: int, measure: Callable[[str, int], float]
) -> Samples:
    """Every round visits all targets back to back; who goes first rotates."""
    samples: dict[str, list[float | None]] = {target: [] for target in targets}
    for number in range(rounds):
        shift = number % len(targets)
        for target in (*targets[shift:], *targets[:shift]):
            samples[target].append(measure(target, number))
    return samples
