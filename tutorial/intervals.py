"""How sure a count is: an interval for a share, and exact tests of two counts.

Everything is computed from binomial coefficients; no table and no package is needed.
"""

from math import comb, sqrt
from statistics import NormalDist


def wilson(successes, n, confidence=0.95):
    """Wilson's interval for a share, successes of n trials: (low, high), both from 0 to 1 (Wilson, 1927).

    Unlike the usual mean ± 2 standard errors it is right for small numbers, and when all or none succeed. Raises
    ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: expected a number above 0, and at most as many successes")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    # The ends are the shares p with |successes / n - p| = z √(p (1 - p) / n), a quadratic equation whose leading
    # coefficient is `scale`.
    share, scale = successes / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z / scale * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mcnemar(before, after):
    """The two-sided p-value of the exact McNemar test of paired outcomes (McNemar, 1947): how likely so uneven a split
    of the changed entries, or a more uneven one, is if both directions are equally likely.

    before, after: the outcomes of the same entries, true or false. Raises ValueError unless both have one outcome for
    each entry.
    """
    pairs = list(zip(before, after, strict=True))
    lost = sum(bool(one) and not other for one, other in pairs)
    won = sum(bool(other) and not one for one, other in pairs)
    tail = sum(comb(lost + won, k) for k in range(min(lost, won) + 1)) / 2 ** (lost + won)
    return min(2 * tail, 1.0)


def fisher(table):
    """The two-sided p-value of Fisher's exact test of two by two counts, ((a, b), (c, d)) (Fisher, 1935): how likely a
    table with the same sums that is as unlikely as this one, or more, is if rows and columns are independent."""
    (a, b), (c, d) = table
    row, column, n = a + b, a + c, a + b + c + d

    def ways(k):  # to have k in the place of a
        return comb(column, k) * comb(n - column, row - k)

    possible = range(max(0, row + column - n), min(row, column) + 1)
    return sum(ways(k) for k in possible if ways(k) <= ways(a)) / comb(n, row)
