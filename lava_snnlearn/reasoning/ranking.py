"""Filtered ranking of answers, and the measures made of it; measures of link prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lava_snnlearn.checks import at_least, within

Scores = Tensor | NDArray[np.floating[Any]]
_HITS = (1, 3, 10)


def filtered_ranks(scores: Scores, answers: ArrayLike, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rank of each query's answer among the candidates that are not known to be true.

    rank = 1 + number of entities, neither the answer nor known to be true, with a score >= the answer's: ties count against the
    model, so that a constant score gets the last rank.

    Args:
        scores: floats [B, N], on any device.
        answers: int64 [B], the true entity of each query.
        known: bool [B, N], the true entities of each query (:meth:`KnownAnswers.mask`); the answer may be among them.

    Returns:
        int64 [B], from 1.

    Raises:
        ValueError: shapes that do not agree; scores that are NaN. LimitError: an answer that is no entity.
    """
    values = torch.as_tensor(scores).detach()
    chosen, hidden = _checked(values.shape, answers, known)
    if bool(torch.isnan(values).any()):
        raise ValueError(f"{int(torch.isnan(values).sum())} of {values.numel()} scores are NaN and have no rank")
    true = values.gather(1, chosen.to(values.device)[:, None])
    ranks: NDArray[np.int64] = ((values >= true) & ~hidden.to(values.device)).sum(dim=1).cpu().numpy() + 1
    return ranks


def filtered_candidates(answers: ArrayLike, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of candidates that each answer was ranked against: int64 [B]. Arguments as in :func:`filtered_ranks`."""
    _, hidden = _checked(np.shape(known), answers, known)
    candidates: NDArray[np.int64] = (~hidden).sum(dim=1).numpy()
    return candidates


def _checked(shape: tuple[int, ...], answers: ArrayLike, known: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Answers [B], and which entities are no candidates (known ones and the answer): bool [B, N]."""
    chosen, hidden = np.asarray(answers, np.int64), np.array(known, bool)
    if len(shape) != 2 or hidden.shape != tuple(shape) or chosen.shape != tuple(shape[:1]):
        raise ValueError(f"scores {tuple(shape)}, known {hidden.shape}, answers {chosen.shape}; expected [B, N] twice, and [B]")
    within("answers", chosen, 0, shape[1] - 1, f"There are {shape[1]} entities.")
    hidden[np.arange(len(chosen)), chosen] = True
    return torch.from_numpy(chosen), torch.from_numpy(hidden)


def rank_measures(ranks: ArrayLike) -> dict[str, float]:
    """Mean rank "mr", mean reciprocal rank "mrr", and the shares "hits@1", "hits@3" and "hits@10" of ranks up to 1, 3 and 10.

    Head and tail queries of the same triples in one array are averaged by this.

    Args:
        ranks: integers [n] from 1.

    Raises:
        ValueError: no rank. LimitError: a rank below 1. TypeError: ranks that are no integers.
    """
    found = _ranks(ranks)
    hits = {f"hits@{most}": float((found <= most).mean()) for most in _HITS}
    return {"mr": float(found.mean()), "mrr": float((1 / found).mean()), **hits}


def sampled_hits(ranks: ArrayLike, candidates: ArrayLike, *, hits: int = 10, samples: int = 50) -> float:
    """Expected share of queries whose answer is among the first ``hits`` when it is ranked against ``samples`` negatives.

    The negatives are drawn with replacement from a query's candidates, of which the fraction p = (rank - 1) / candidates scores
    at least as high as the answer. So the number that does is binomial, and the share is P(number <= hits - 1) = sum over
    i < hits of C(samples, i) p^i (1 - p)^(samples - i), without drawing. (Some published code counts the answer among the 50;
    that is samples=49.)

    Args:
        ranks: int64 [n] from 1.
        candidates: int64 [n], the number of negatives each was ranked against (:func:`filtered_candidates`).
        hits, samples: whole numbers from 1.

    Raises:
        ValueError: no rank, or other lengths. LimitError: a rank below 1 or above candidates + 1.
    """
    from scipy.special import bdtr

    found, negatives = _ranks(ranks), np.asarray(candidates, np.int64)
    if negatives.shape != found.shape:
        raise ValueError(f"ranks have shape {found.shape}, candidates {negatives.shape}; expected the same")
    within("ranks - candidates", found - negatives, -np.inf, 1, "A rank is at most the number of candidates + 1.")
    rate = (found - 1) / np.maximum(negatives, 1)
    hits, samples = at_least(1, "hits", hits), at_least(1, "samples", samples)
    return float(bdtr(min(hits - 1, samples), samples, rate).mean())


def _ranks(ranks: ArrayLike) -> NDArray[np.int64]:
    found = np.asarray(ranks)
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"ranks have shape {found.shape}; expected [n] with at least one rank. Is the split empty?")
    if found.dtype.kind not in "iu":
        raise TypeError(f"ranks are {found.dtype}; expected integers")
    within("ranks", found, 1, np.inf, "Ranks are counted from 1.")
    return found.astype(np.int64)


def link_measures(links: Scores, negatives: Scores) -> dict[str, float]:
    """Area under the ROC curve "auroc" and average precision "ap" of the scores of links against those of pairs without one.

    Args:
        links, negatives: floats [n] and [m].

    Raises:
        ValueError: an empty array, or scores that are NaN or infinite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    parts = [torch.as_tensor(scores).detach().cpu().double().numpy() for scores in (links, negatives)]
    for name, part in zip(("links", "negatives"), parts, strict=True):
        if part.ndim != 1 or part.size == 0 or not np.isfinite(part).all():
            bad = int((~np.isfinite(part)).sum())
            raise ValueError(
                f"scores of {name} have shape {part.shape}, {bad} of them not finite; expected finite ones, [n], n > 0"
            )
    scores, labels = np.concatenate(parts), np.repeat([1, 0], [len(part) for part in parts])
    return {"auroc": float(roc_auc_score(labels, scores)), "ap": float(average_precision_score(labels, scores))}
