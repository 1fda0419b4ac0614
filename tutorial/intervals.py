"""How sure a count is: an interval for a share, and exact tests of two counts.

Everything is computed from binomial coefficients; no table and no package is needed.
"""

from math import comb, sqrt
from statistics import NormalDist


def wilson(successes, number, confidence=0.95):
    """Wilson's interval for a share, successes of a number of trials: (low, high), both from 0 to 1 (Wilson, 1927).

    Unlike the usual mean ± 2 standard errors it is right for small numbers, and when all or none succeed. Raises
    ValueError unless 0 <= successes <= number and number > 0.
    """
    if not 0 <= successes <= number or number == 0:
        raise ValueError(f"{successes} successes of {number}: expected a number above 0, and at most as many successes")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = successes / number, 1 + z * z / number
    middle = (share + z * z / (2 * number)) / scale
    half = z / scale * sqrt(share * (1 - share) / number + (z / (2 * number)) ** 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mcnemar(before, after):
    """The exact McNemar test of paired outcomes, true or false, of the same entries before and after: the two-sided
    probability that as many of the entries that changed, or more, changed in one direction by chance (McNemar, 1947).

    Raises ValueError unless both have one outcome for each entry.
    """
    pairs = list(zip(before, after, strict=True))
    lost = sum(bool(one) and not other for one, other in pairs)
    won = sum(bool(other) and not one for one, other in pairs)
    tail = sum(comb(lost + won, k) for k in range(min(lost, won) + 1)) / 2 ** (lost + won)
    return min(2 * tail, 1.0)


def fisher(table):
    """Fisher's exact test of a table of two by two counts, ((a, b), (c, d)): the two-sided probability of a table with
    the same sums that is as unlikely as this one, or more, if rows and columns are independent (Fisher, 1935)."""
    (a, b), (c, d) = table
    row, column, number = a + b, a + c, a + b + c + d

    def ways(k):  # to have k in the place of a
        return comb(column, k) * comb(number - column, row - k)

    possible = range(max(0, row + column - number), min(row, column) + 1)
    return sum(ways(k) for k in possible if ways(k) <= ways(a)) / comb(number, row)
