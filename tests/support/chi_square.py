"""Whether counts are what theory says, as far as chance allows: Pearson's test."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

# The standard normal distribution's point that one in a thousand is above.
_ONE_IN_A_THOUSAND = 3.0902


def chi_square(counts: Iterable[int], probabilities: Iterable[float]) -> float:
    """The statistic as a share of its critical value at 0.1 %: above 1, only one honest sample in a thousand is.

    The critical value is Wilson and Hilferty's approximation (1931), good to 1 % from two degrees of freedom on, and
    2 % too low for one. A probability of 0 allows no count at all.
    """
    pairs = list(zip(counts, probabilities, strict=True))
    assert all(count == 0 for count, probability in pairs if probability == 0)
    pairs = [(count, probability) for count, probability in pairs if probability]
    total = sum(count for count, _ in pairs)
    assert abs(sum(probability for _, probability in pairs) - 1) < 1e-9
    assert min(total * probability for _, probability in pairs) >= 5, "too few expected for the test to hold"
    statistic = sum((count - total * share) ** 2 / (total * share) for count, share in pairs)
    freedom = len(pairs) - 1
    term = 2 / (9 * freedom)
    return statistic / (freedom * (1 - term + _ONE_IN_A_THOUSAND * sqrt(term)) ** 3)
