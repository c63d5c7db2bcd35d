"""Two scores of an untrained network, after Zero-Cost Proxies (Abdelfattah et al. 2021)."""

import torch
from torch import Tensor, nn


def synflow(network: nn.Module, size: tuple[int, int]) -> float:
    """Return the logarithm of SynFlow: the sum of weight times gradient over all parameters.

    Weights are their absolute values, the image of ``size`` is of ones, normalisation passes on
    what comes in (evaluation with the statistics of a fresh network), all in float64: Tanaka et
    al., Pruning neural networks without any data, 2020, equation 3. ``network`` is changed.
    """
    network.eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network(torch.ones(1, 3, *size, dtype=torch.float64)).sum().backward()
    products = [(p * p.grad).sum() for p in network.parameters() if p.grad is not None]
    return float(torch.stack(products).sum().abs().log())


def jacobian_covariance(network: nn.Module, images: Tensor) -> float:
    """Return how differently a fresh network answers to changes of each of ``images`` [B, 3, H, W].

    From the eigenvalues v of the correlations between the images' gradients of the summed output:
    -sum(log(v + k) + 1 / (v + k)), k = 1e-5: Mellor et al., Neural architecture search without
    training, 2020, first version, as in Zero-Cost Proxies.
    """
    network.train().double()
    given = images.double().requires_grad_()
    network(given).sum().backward()
    assert given.grad is not None
    eigenvalues = torch.linalg.eigvalsh(torch.corrcoef(given.grad.flatten(1))) + 1e-5
    return float(-(eigenvalues.log() + 1 / eigenvalues).sum())
