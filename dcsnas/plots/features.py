"""Features of some identities in the plane: linear discriminants, then t-SNE.

Source: DCS-Attention 2025, Appendix B; van der Maaten and Hinton, "Visualizing Data using t-SNE",
JMLR 2008.
Shapes: N images, D features, C identities.
"""

import warnings
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.evaluation.information import fisher_score
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.plots.style import INK, SMALL, new_figure

IDENTITIES = 10
"""Shown: as many as colours are told apart, by marker too."""
FEWEST_IMAGES = 2
LARGEST_PERPLEXITY = 30.0
MARKERS = "os^Dv"


def most_shown(identities: Tensor, count: int = IDENTITIES) -> list[int]:
    """Return the ``count`` labels with the most images, those of lower number first in a tie.

    Junk and distractors, labels below 1, are none; an identity has at least two images.
    """
    labels, images = identities.unique(return_counts=True)
    shown = [
        (-int(n), int(label))
        for label, n in zip(labels, images, strict=True)
        if label >= 1 and n >= FEWEST_IMAGES
    ]
    return [label for _, label in sorted(shown)[:count]]


def in_plane(features: Tensor, labels: Tensor) -> np.ndarray:
    """Return t-SNE [N, 2] of the linear discriminants of features [N, D], the same every time."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.manifold import TSNE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer images than features, which shrinkage is for
        lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
        discriminants = lda.fit_transform(features.double().numpy(), labels.numpy())
    perplexity = min(LARGEST_PERPLEXITY, (len(labels) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=0)
    return np.asarray(tsne.fit_transform(discriminants))


def plot_features(embeddings: Sequence[Embeddings], *, source: str) -> Figure:
    """Draw the IDENTITIES with the most images among ``embeddings``; ``source`` names the images.

    Raises UserError where fewer than three identities have two images.
    """
    features = torch.cat([one.features for one in embeddings])
    identities = torch.cat([one.identities for one in embeddings])
    shown = most_shown(identities)
    if len(shown) < 3:
        raise UserError(
            f"{source}: {len(shown)} identities have {FEWEST_IMAGES} images or more; a picture of "
            "their features takes three"
        )
    known = torch.isin(identities, torch.tensor(shown))
    features, labels = features[known], identities[known]
    points, score = in_plane(features, labels), fisher_score(features, labels)
    figure = new_figure(
        6.0,
        5.4,
        title=f"Features of {len(shown)} identities, Fisher score {score:.2f}",
        subtitle=f"t-SNE of {len(shown) - 1} linear discriminants of the {len(labels):,} images of "
        f"the identities with the most in {source}; the score is of these images and features, "
        "before t-SNE, and distances between groups mean nothing",
    )
    axes = figure.subplots()
    colors = mpl.colormaps["tab10"]
    for index, label in enumerate(shown):
        own = points[(labels == label).numpy()]
        marker = MARKERS[index % len(MARKERS)]
        look = {"color": colors(index % 10), "marker": marker, "edgecolor": "white"}
        axes.scatter(*own.T, s=26, linewidth=0.4, label=f"{label:04d}", **look)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=INK)
    axes.legend(
        title="identity", title_fontsize=SMALL, fontsize=SMALL, frameon=False,
        loc="center left", bbox_to_anchor=(1.0, 0.5), borderaxespad=0.4,
    )  # fmt: skip
    return figure
