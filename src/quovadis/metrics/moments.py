"""Mean and covariance of features that come in batches, in float64 and without ever squaring them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError

Array = NDArray[np.float64]


class FeatureMoments:
    """Mean and covariance of features, updated batch by batch.

    The pairwise update of Chan, Golub and LeVeque (1983) joins the moments of two sets: the scatter of both together is
    the sum of their scatters and of the outer product of the difference of their means. Here the scatter S (the sum of
    outer products of centered features) is kept as a factor F with ``F^T F = S``, and QR decompositions keep F at no
    more than D rows. So nothing is squared and subtracted again, and features of fewer samples than dimensions lose no
    digits: the singular values of F carry all 53 bits, where those of S would have half of them.

    Memory is constant: at most 2 D x D numbers of float64, whatever the number of samples.

    >>> moments = FeatureMoments()
    >>> for batch in np.arange(12.0).reshape(3, 2, 2):
    ...     moments.update(batch)
    >>> moments.count, moments.mean.tolist(), moments.covariance().round(6).tolist()
    (6, [5.0, 6.0], [[14.0, 14.0], [14.0, 14.0]])
    """

    def __init__(self) -> None:
        self.count = 0
        """Samples so far."""
        self.mean: Array = np.zeros(0)
        """float64 (D,)."""
        self._factor: Array = np.zeros((0, 0))

    @classmethod
    def of(cls, features: Any) -> FeatureMoments:
        """The moments of one array (N, D); see :meth:`update`."""
        moments = cls()
        moments.update(features)
        return moments

    @classmethod
    def restore(cls, count: int, mean: Array, factor: Array) -> FeatureMoments:
        """Moments from the numbers that were kept of them: ``count``, ``mean`` and :attr:`factor`.

        Raises:
            InvalidInputError: their shapes do not go together, or they are not finite.
        """
        mean, factor = np.asarray(mean, np.float64), np.asarray(factor, np.float64)
        if count < 1 or mean.ndim != 1 or factor.ndim != 2 or factor.shape[1] != len(mean):
            raise InvalidInputError(
                f"moments need a count, a mean (D,) and a factor (K, D); got {count}, {mean.shape} and {factor.shape}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(factor).all()):
            raise InvalidInputError("these moments have NaN or infinity in them")
        moments = cls()
        moments.count, moments.mean, moments._factor = int(count), mean, factor
        return moments

    @property
    def dim(self) -> int:
        """D, the length of a feature; 0 before the first one."""
        return len(self.mean)

    @property
    def factor(self) -> Array:
        """float64 (K, D) with K at most D: its Gram matrix is the scatter, the covariance times ``count - ddof``."""
        self._compress(self.dim)
        return self._factor

    def update(self, features: Any) -> None:
        """Add features.

        Args:
            features: (N, D), an array or tensor of real numbers; N may be 1.

        Raises:
            InvalidTypeError: no numbers. InvalidInputError: another shape or D than before, NaN or infinity.
        """
        x = feature_array(features)
        if self.count and x.shape[1] != self.dim:
            raise InvalidInputError(f"features must all have one length: {self.dim} before, {x.shape[1]} now")
        if not self.count:
            self.mean, self._factor = np.zeros(x.shape[1]), np.zeros((0, x.shape[1]))
        mean = x.mean(0)
        total = self.count + len(x)
        step = mean - self.mean
        between = step * np.sqrt(self.count * len(x) / total)
        self._factor = np.concatenate([self._factor, x - mean, between[None]])
        self.mean = self.mean + step * (len(x) / total)
        self.count = total
        self._compress(2 * self.dim)

    def covariance(self, ddof: int = 1) -> Array:
        """float64 (D, D).

        Args:
            ddof: divide by ``count - ddof``: 1 as ``numpy.cov``, 0 as a population.

        Raises:
            InvalidInputError: too few samples for it.
        """
        return self._factor.T @ self._factor / self.degrees(ddof)

    def degrees(self, ddof: int) -> int:
        """``count - ddof``.

        Raises:
            InvalidInputError: it is below 1, or ``ddof`` is neither 0 nor 1.
        """
        if ddof not in (0, 1):
            raise InvalidInputError(f"ddof must be 1 (as numpy.cov) or 0; got {ddof}")
        if self.count - ddof < 1:
            raise InvalidInputError(
                f"a covariance with ddof={ddof} needs at least {ddof + 1} samples; got {self.count}"
            )
        return self.count - ddof

    def _compress(self, max_rows: int) -> None:
        if len(self._factor) > max_rows:
            self._factor = np.asarray(np.linalg.qr(self._factor, mode="r"))


def feature_array(features: Any) -> Array:
    """Features as float64 (N, D), checked.

    Raises:
        InvalidTypeError: no numbers. InvalidInputError: another shape, nothing in it, NaN or infinity.
    """
    if isinstance(features, Tensor):
        features = features.detach().cpu().double().numpy()
    x = np.asarray(features)
    if x.dtype.kind not in "fiu":
        raise InvalidTypeError(f"features must be real numbers (N, D); got {x.dtype}")
    if x.ndim != 2 or 0 in x.shape:
        raise InvalidInputError(f"features must have shape (N, D) with at least one row; got {x.shape}")
    x = x.astype(np.float64)
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise InvalidInputError(
            f"{int(bad.sum())} of {len(x)} features have NaN or infinity in them, the first in row {int(bad.argmax())}"
        )
    return x
