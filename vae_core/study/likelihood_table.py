"""A table of Burda et al. (2016): how near this package comes."""

from collections.abc import Mapping


def likelihood_table(nll: Mapping[int, float], paper: Mapping[int, float]) -> str:
    """A paper's table, from the best test NLL by number of importance samples in training, nats per image."""
    shared = sorted(set(nll) & set(paper))
    if not shared:
        return "No verdict: no training with a number of importance samples that the paper has."
    told = []
    for k in shared:
        gap = nll[k] - paper[k]
        how = "reached" if gap <= 0 else f"missed by {gap:.2f} nats"
        told.append(f"k = {k}: {nll[k]:.2f} nats, the paper's {paper[k]:.2f} is {how}.")
    return " ".join(told)
