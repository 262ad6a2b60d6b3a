"""Mean and covariance of features, accumulated over batches without loss of precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError

Array = NDArray[np.float64]


class FeatureMoments:
    """Mean and covariance of features, accumulated over batches.

    Batches are merged by the pairwise update: the scatter of two sets together is the sum of their scatters and of the
    outer product of the difference of their means. The scatter S is stored as a factor F with ``F^T F = S``, which QR
    decompositions limit to D rows. The singular values of F have full float64 precision, while those of S would have
    half of it. Memory is constant: at most two D x D arrays of float64.

    Example:
        >>> moments = FeatureMoments()
        >>> for batch in np.arange(12.0).reshape(3, 2, 2):
        ...     moments.update(batch)
        >>> moments.count, moments.mean.tolist(), moments.covariance().round(6).tolist()
        (6, [5.0, 6.0], [[14.0, 14.0], [14.0, 14.0]])

    References:
        T. Chan, G. Golub, R. LeVeque, "Algorithms for Computing the Sample Variance", 1983.
    """

    def __init__(self) -> None:
        self.count = 0
        """Number of samples."""
        self.mean: Array = np.zeros(0)
        """float64 array (D,)."""
        self._factor: Array = np.zeros((0, 0))

    @classmethod
    def of(cls, features: Any) -> FeatureMoments:
        """Return the moments of one array (N, D); see :meth:`update`."""
        moments = cls()
        moments.update(features)
        return moments

    @classmethod
    def restore(cls, count: int, mean: Array, factor: Array) -> FeatureMoments:
        """Restore moments from their stored :attr:`count`, :attr:`mean` and :attr:`factor`.

        Raises:
            InvalidInputError: If the shapes do not match or values are not finite.
        """
        mean, factor = np.asarray(mean, np.float64), np.asarray(factor, np.float64)
        if count < 1 or mean.ndim != 1 or factor.ndim != 2 or factor.shape[1] != len(mean):
            raise InvalidInputError(
                f"moments need a count, a mean (D,) and a factor (K, D); got {count}, {mean.shape} and {factor.shape}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(factor).all()):
            raise InvalidInputError("the mean or the factor contains NaN or infinity")
        moments = cls()
        moments.count, moments.mean, moments._factor = int(count), mean, factor
        return moments

    @property
    def dim(self) -> int:
        """Length D of a feature; 0 before the first update."""
        return len(self.mean)

    @property
    def factor(self) -> Array:
        """float64 array F (K, D) with K <= D; ``F^T F`` is the covariance times ``count - ddof``."""
        self._compress(self.dim)
        return self._factor

    def update(self, features: Any) -> None:
        """Add a batch of features.

        Args:
            features: Array or tensor (N, D) of real numbers, with N >= 1.

        Raises:
            InvalidTypeError: If the features are not real numbers.
            InvalidInputError: If the shape is wrong, D differs from earlier batches, or values are not finite.
        """
        x = feature_array(features)
        if self.count and x.shape[1] != self.dim:
            raise InvalidInputError(f"features must have length {self.dim}, as in earlier batches; got {x.shape[1]}")
        if not self.count:
            self.mean, self._factor = np.zeros(x.shape[1]), np.zeros((0, x.shape[1]))
        mean = x.mean(0)
        self._merge(len(x), mean, x - mean)

    def merge(self, other: FeatureMoments) -> None:
        """Add the samples of other moments, such as those of another process.

        Raises:
            InvalidInputError: If the features have another length.

        Example:
            >>> moments = FeatureMoments.of([[0.0], [2.0]])
            >>> moments.merge(FeatureMoments.of([[7.0]]))
            >>> moments.count, moments.mean.tolist(), moments.covariance().round(9).tolist()
            (3, [3.0], [[13.0]])
        """
        if not other.count:
            return
        if self.count and other.dim != self.dim:
            raise InvalidInputError(f"features must have length {self.dim}; got {other.dim}")
        if not self.count:
            self.mean, self._factor = np.zeros(other.dim), np.zeros((0, other.dim))
        self._merge(other.count, other.mean, other.factor)

    def _merge(self, count: int, mean: Array, factor: Array) -> None:
        total = self.count + count
        step = mean - self.mean
        between = step * np.sqrt(self.count * count / total)
        self._factor = np.concatenate([self._factor, factor, between[None]])
        self.mean = self.mean + step * (count / total)
        self.count = total
        self._compress(2 * self.dim)

    def covariance(self, ddof: int = 1) -> Array:
        """Return the covariance, a float64 array (D, D).

        Args:
            ddof: The divisor is ``count - ddof``: 1 as in ``numpy.cov``, 0 for a population.

        Raises:
            InvalidInputError: If there are too few samples, or ``ddof`` is neither 0 nor 1.
        """
        return self._factor.T @ self._factor / self.degrees(ddof)

    def degrees(self, ddof: int) -> int:
        """Return ``count - ddof``.

        Raises:
            InvalidInputError: If the result is below 1, or ``ddof`` is neither 0 nor 1.
        """
        if ddof not in (0, 1):
            raise InvalidInputError(f"ddof must be 1 (as in numpy.cov) or 0; got {ddof}")
        if self.count - ddof < 1:
            raise InvalidInputError(
                f"a covariance with ddof={ddof} needs at least {ddof + 1} samples; got {self.count}"
            )
        return self.count - ddof

    def _compress(self, max_rows: int) -> None:
        if len(self._factor) > max_rows:
            self._factor = np.asarray(np.linalg.qr(self._factor, mode="r"))


def feature_array(features: Any) -> Array:
    """Convert features to a float64 array (N, D) and validate them.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If the shape is wrong, the array is empty, or values are not finite.
    """
    if isinstance(features, Tensor):
        features = features.detach().cpu().double().numpy()
    x = np.asarray(features)
    if x.dtype.kind not in "fiu":
        got = type(features).__name__ if x.dtype == object else str(x.dtype)
        hint = "; pass its attribute features" if hasattr(features, "features") else ""
        raise InvalidTypeError(f"features must be real numbers (N, D); got {got}{hint}")
    if x.ndim != 2 or 0 in x.shape:
        raise InvalidInputError(f"features must have shape (N, D) with at least one row; got {x.shape}")
    x = x.astype(np.float64)
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise InvalidInputError(
            f"{int(bad.sum())} of {len(x)} features contain NaN or infinity, the first in row {int(bad.argmax())}"
        )
    return x
