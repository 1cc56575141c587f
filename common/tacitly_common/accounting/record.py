"""Record-level accounting: what the DP-SGD steps taken so far mean for one window of events.

Poisson-sampled Gaussian steps composed as Rényi DP by Opacus's accountant, which is what the
training itself counts with. A ledger of its own: never added to the person level.
"""

from collections.abc import Sequence


def record_epsilon(history: Sequence[tuple[float, float, int]], delta: float) -> float:
    """ε at `delta` of a history of (noise multiplier, sample rate, steps); 0 for none.

    Mironov, Talwar and Zhang 2019, section 3.3, on Opacus's grid of orders.
    """
    if not history:
        return 0.0
    from opacus.accountants import RDPAccountant  # 2 s with torch: only who shows an ε pays

    accountant = RDPAccountant()
    accountant.load_state_dict({"mechanism": accountant.mechanism(), "history": list(history)})
    return float(accountant.get_epsilon(delta))
