"""Linear probes: a logistic regression per task on what enters the last layer.

A probe measures what the pretrained features are worth as they are, and fine-tuning starts from it: with a random last
layer, the first steps would spoil features that the layer cannot read yet (Kumar et al., ICLR 2022).
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..models.inference import evaluating, logits_of

STRENGTHS = tuple(10.0**power for power in range(-5, 2))
FOLDS = 5  #: Of the cross-validation that chooses among these C; smaller is simpler
ONE_FOLD = 5000  #: With more rows than this, one of the folds decides on C: the others would say the same
NEVER = -30.0  #: The bias of a class that no training row has: its probability is 1e-13


def start_heads(
    network: nn.Module, forward: Callable[[Tensor], dict[str, Tensor]], inputs: Callable[[np.ndarray], Tensor],
    rows: np.ndarray, targets: dict[str, np.ndarray], groups: np.ndarray, device: torch.device,
) -> None:
    """Set each task's last layer to a logistic regression on what enters it.

    Args:
        network: with ``last_layers()``, one linear layer per task (a BiLSTM has others); nothing else is changed.
        forward, inputs, rows: how rows become logits, see ``inference.logits_of``; the training rows.
        targets: by task (N,) class numbers, negative where unlabelled, or (N, C) shares that sum to 1, or 0 there.
        groups: (N,) names; C is chosen by cross-validation over whole groups.
    """
    layers = network.last_layers()
    features: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [layer.register_forward_pre_hook(lambda _, args, name=name: features[name].append(args[0].float()))
             for name, layer in layers.items()]

    def seen(batch: Tensor) -> dict[str, Tensor]:
        for values in features.values():
            values.clear()
        forward(batch)
        return {name: values[0] for name, values in features.items()}

    try:
        with evaluating(network):
            x = logits_of(seen, inputs, rows, device)
    finally:
        for hook in hooks:
            hook.remove()
    for name, layer in layers.items():
        y = targets[name][rows]
        known = y >= 0 if y.ndim == 1 else y.sum(axis=1) > 0
        if known.any():
            weight, bias = regression(x[name][known], y[known], groups[rows][known], layer.out_features)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(np.maximum(bias, NEVER)))


def regression(x: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A logistic regression on standardised columns; C has the best log-loss in a cross-validation over whole groups.

    It makes ``sum of cross-entropies + |W|^2 / (2 C)`` smallest, as scikit-learn's ``LogisticRegression`` of several
    classes does, and also takes distributions of votes for labels.

    Args:
        x, y: (N, D); (N,) class numbers, or (N, C) rows that sum to 1.
        groups: (N,) names; with fewer than two of them there is nothing to choose C by, and it is 1e-3.

    Returns:
        (C, D) weights and (C,) biases for columns that are not standardised; -inf of classes that don't occur.
    """
    from sklearn.model_selection import GroupKFold

    x = np.asarray(x, dtype=np.float64)
    y = np.eye(classes)[y] if y.ndim == 1 else np.asarray(y, dtype=np.float64)
    folds = min(FOLDS, len(np.unique(groups)))
    best, losses = 1e-3, list[float]()
    if folds > 1:
        parts = list(GroupKFold(folds, shuffle=True, random_state=0).split(x, y, groups))
        parts = parts if len(x) <= ONE_FOLD else parts[:1]
        for fits in zip(*(_regressions(x[train], y[train], STRENGTHS) for train, _ in parts), strict=True):
            losses.append(sum(_log_loss(x[test] @ weight.T + np.maximum(bias, NEVER), y[test])
                              for (weight, bias), (_, test) in zip(fits, parts, strict=True)))
            if losses[-1] > min(losses):  # what is more complex would overfit more, and takes longest
                break
        best = STRENGTHS[int(np.argmin(losses))]
    return next(_regressions(x, y, [best]))


def _log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    return float(-(y * (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))).sum())


def _regressions(x: np.ndarray, y: np.ndarray, strengths) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases for each C, from simple to complex, each started where the last one ended."""
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    mean, std, present = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6), y.sum(axis=0) > 0
    z, target = (x - mean) / std, y[:, present]
    wide = len(x) < x.shape[1]  # the penalty's optimum lies in the rows' span: no other axes are needed
    size, turn = np.linalg.eigh(z @ z.T if wide else z.T @ z)
    size, turn = size[size > 1e-9 * size[-1]], turn[:, size > 1e-9 * size[-1]]
    turn = z.T @ turn / np.sqrt(size) if wide else turn
    z = z @ turn
    weight, bias = np.zeros((target.shape[1], len(size))), np.zeros(target.shape[1])
    for strength in strengths:  # each axis in units in which the loss curves alike: L-BFGS takes a tenth of the steps
        scale = 1 / np.sqrt(size / (4 * len(x)) + 1 / (strength * len(x)))
        with threadpool_limits(1, "blas"):  # products too small to share: a second thread would only wait, and loudly
            values = minimize(_loss, np.concatenate([bias, (weight / scale).ravel()]),
                              (z * scale, target, scale**2 / (strength * len(x))), "L-BFGS-B", jac=True,
                              options={"maxiter": 300, "gtol": 1e-6, "ftol": 1e-10}).x
        bias, weight = np.split(values, [len(bias)])
        weight = weight.reshape(len(bias), -1) * scale
        whole, biases = np.zeros((y.shape[1], x.shape[1])), np.full(y.shape[1], -np.inf)
        whole[present] = weight @ turn.T / std
        biases[present] = bias - whole[present] @ mean
        yield whole, biases


def _loss(values: np.ndarray, z: np.ndarray, target: np.ndarray, penalty: np.ndarray) -> tuple[float, np.ndarray]:
    """What a regression makes smallest, divided by the rows, and its gradient by ``values``: biases, then weights."""
    bias, weight = np.split(values, [target.shape[1]])
    weight = weight.reshape(len(bias), -1)
    logits = z @ weight.T + bias
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    off, pull = (np.exp(logits) - target) / len(z), weight * penalty
    loss = -(target * logits).sum() / len(z) + (weight * pull).sum() / 2
    return loss, np.concatenate([off.sum(axis=0), (off.T @ z + pull).ravel()])
