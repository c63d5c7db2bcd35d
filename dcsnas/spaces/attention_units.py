"""The operations of attention, as the units of ``spaces.units`` that they are.

``outputs`` and ``working`` are explained there. V is a value for every channel of every token.
"""

from dataclasses import dataclass
from typing import Literal

from dcsnas.spaces.counts import Cost, Selected

Affinity = Literal["dot", "softmax"]
AffinityScale = Literal["none", "sqrt", "cosine"]


@dataclass(frozen=True)
class AttentionUnit:
    """A whole attention module: selection, affinity, depthwise 3x3 with BatchNorm, residual."""

    affinity: Affinity
    channels: int
    height: int
    width: int
    selection: Cost
    """What selecting the channels of the affinity costs."""
    scale: AffinityScale
    selected: Selected
    """What selecting them holds."""

    @property
    def params(self) -> int:
        """Return the number of weights: the selection's, depthwise 3x3, BatchNorm."""
        return self.selection.params + 11 * self.channels

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates for one image, the two matrix products included."""
        values = self.height * self.width * self.channels
        return self.selection.macs + 2 * values * self._affinity_side + 9 * values

    @property
    def activations(self) -> int:
        """Return the output elements: of the selection, two matrix products, depthwise 3x3."""
        tokens, channels = self.height * self.width, self.channels
        first_product = self._affinity_side * (tokens if self._pairs_tokens else channels)
        return self.selection.activations + first_product + 2 * tokens * channels

    @property
    def outputs(self) -> int:
        """Return the elements of the result."""
        return self.channels * self.height * self.width

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time; queries and keys are kept until the sum is."""
        before, scaling, kept = self._of_scaled if self.selected.of_scaled else self._scaled
        selecting = before + self.selected.working
        after = kept + 3 * self.outputs  # attended, convolved, normalised; attended, both summands
        attending = kept + self._attending(channels_last)
        return max(selecting, scaling, attending, after)

    @property
    def _of_scaled(self) -> tuple[int, int, int]:
        """Return what selecting finds, what scaling makes at most, and queries and keys then."""
        values, tokens = self.outputs, self.height * self.width
        match self.scale:
            case "none":
                return 0, 0, self.selected.query
            case "sqrt":  # the keys are the tokens
                return values, values, self.selected.query
            case "cosine":
                return values, values + tokens, self.selected.query + values

    @property
    def _scaled(self) -> tuple[int, int, int]:
        """Return nothing, what scaling queries and keys makes at most, and what both are then."""
        values, tokens = self.outputs, self.height * self.width
        given = self.selected.query + self.selected.key
        if self.scale == "none":
            return 0, given, given
        key = self.selected.query if self.selected.alike else self.selected.key
        if self.scale == "sqrt":
            return 0, given + values, key + values
        both = values if self.selected.alike else 2 * values
        return 0, given + both + tokens, both  # beside them squares' sums, or their roots' inverses

    def _attending(self, channels_last: bool) -> int:
        """Return what the affinity makes at most; softmax is fused and holds no N x N products."""
        values, tokens = self.outputs, self.height * self.width
        if self.affinity == "softmax":
            is_contiguous = channels_last or tokens == 1 or self.channels == 1
            return (0 if is_contiguous else 3 * values) + values + tokens
        return max(self._affinity_side**2, values) + values

    @property
    def _pairs_tokens(self) -> bool:
        """Whether (Q K^T) V is computed; without softmax, Q (K^T V) where channels are fewer."""
        return self.affinity == "softmax" or self.height * self.width < self.channels

    @property
    def _affinity_side(self) -> int:
        return self.height * self.width if self._pairs_tokens else self.channels


@dataclass(frozen=True)
class SelectionUnit:
    """What selects of a block's queries and keys; the products of them are the block's own."""

    params: int
    macs: int
    activations: int
    values: int
    """V, of the tokens."""
    selected: Selected
    """What selecting holds."""

    @property
    def outputs(self) -> int:
        """Return the elements of the selected queries and keys."""
        return 2 * self.values if self.selected.query else 0

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time, until the block's attention is through.

        Queries and keys are stacked, and held beside the attended tokens and their projection; what
        the block would have attended with is held all the while.
        """
        if not self.selected.query:
            return 0
        keys = 0 if self.selected.of_scaled else self.selected.key or self.selected.query
        stacking = self.selected.query + keys + self.outputs
        return max(self.selected.working, stacking, self.outputs + 2 * self.values)


@dataclass(frozen=True)
class GateUnit:
    """An attention module that multiplies the map by weights: the counts of what makes these."""

    params: int
    macs: int
    activations: int
    outputs: int
    """The elements of the result."""
    selected: Selected
    """What making the weights and multiplying by them holds."""

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time."""
        return max(self.selected.working, self.outputs)
