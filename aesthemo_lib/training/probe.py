"""Linear probes: a logistic regression per task on what enters the last layer.

A probe measures what the pretrained features are worth as they are, and fine-tuning starts from it: with a random last
layer, the first steps would spoil features that the layer cannot read yet (Kumar et al., ICLR 2022).
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from ..evaluation.metrics import softmax
from ..models.inference import evaluating, logits_of

STRENGTHS = tuple(10.0**power for power in range(-5, 2))
"""C of the regression, from which cross-validation chooses; smaller is simpler."""
FOLDS = 5
ONE_FOLD = 5000  #: With more rows than this, one of the folds decides on C: the others would say the same
NEVER = -30.0  #: The bias of a class that no training row has: its probability is 1e-13


def start_heads(
    network: nn.Module, forward: Callable[[Tensor], dict[str, Tensor]], inputs: Callable[[np.ndarray], Tensor],
    rows: np.ndarray, targets: dict[str, np.ndarray], groups: np.ndarray, device: torch.device,
) -> None:
    """Set each task's last layer to a logistic regression on what enters it.

    Args:
        network: with ``last_layers()``, one linear layer per task (a BiLSTM has others); nothing else is changed.
        forward, inputs: how rows become logits, see ``inference.logits_of``.
        rows: training rows.
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


def fitted(x: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """``regression`` as a function from (M, D) to (M, C) probabilities; classes that don't occur get 0."""
    weight, bias = regression(x, y, groups, classes)
    return lambda x: softmax(np.asarray(x, dtype=np.float64) @ weight.T + bias)


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
    best = 1e-3
    if folds > 1:
        loss = np.zeros(len(STRENGTHS))
        parts = list(GroupKFold(folds, shuffle=True, random_state=0).split(x, y, groups))
        for train, test in parts if len(x) <= ONE_FOLD else parts[:1]:
            made = _regressions(x[train], y[train], STRENGTHS)
            loss += [_log_loss(x[test] @ weight.T + np.maximum(bias, NEVER), y[test]) for weight, bias in made]
        best = STRENGTHS[int(loss.argmin())]
    return _regressions(x, y, [best])[0]


def _log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    return float(-(y * (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))).sum())


def _regressions(x: np.ndarray, y: np.ndarray, strengths) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases for each C, from simple to complex, each started where the last one ended."""
    mean, std, present = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6), y.sum(axis=0) > 0
    turn = np.eye(x.shape[1])
    if len(x) < x.shape[1]:  # the penalty's optimum lies in the rows' span: in its coordinates the fit is the same
        turn = np.linalg.svd((x - mean) / std, full_matrices=False)[2].T
    turn = turn / std[:, None]
    z, target = (x - mean) @ turn, y[:, present]
    values, made = np.zeros((z.shape[1] + 1) * target.shape[1]), []
    for strength in strengths:
        values = minimize(_loss, values, (z, target, strength), "L-BFGS-B", jac=True,
                          options={"maxiter": 300, "gtol": 1e-6, "ftol": 1e-10}).x
        whole, biases = np.zeros((y.shape[1], x.shape[1])), np.full(y.shape[1], -np.inf)
        bias, weight = np.split(values, [target.shape[1]])
        whole[present] = weight.reshape(len(bias), -1) @ turn.T
        biases[present] = bias - whole[present] @ mean
        made.append((whole, biases))
    return made


def _loss(values: np.ndarray, z: np.ndarray, target: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
    """What a regression makes smallest, divided by the rows, and its gradient by ``values``: biases, then weights.

    A tenth of the time that torch's optimiser took with its gradients: the networks of the lessons wait for it.
    """
    bias, weight = np.split(values, [target.shape[1]])
    weight = weight.reshape(len(bias), -1)
    logits = z @ weight.T + bias
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    off, pull = (np.exp(logits) - target) / len(z), weight / (strength * len(z))
    loss = -(target * logits).sum() / len(z) + (weight * pull).sum() / 2
    return loss, np.concatenate([off.sum(axis=0), (off.T @ z + pull).ravel()])
