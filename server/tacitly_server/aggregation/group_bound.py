"""What the sum of a group can be if everybody in it keeps to clip and noise.

Under masks nobody sees one device's update, only a group's sum. A device may send any residues, so
a sum that is longer than honest ones are has a dishonest share in it, and is left out whole. A
device that stays below this bound is not found: within it a group's sum can be moved by up to
(n - 1)·B beyond what the device's own update may, with n contributors and B the bound of one.
"""

import math

from tacitly_common.campaign import CampaignPlan

# The odds that an honest group is left out.
_ODDS = 1e-9


def group_norm_bound(plan: CampaignPlan, contributors: int) -> float:
    """An L2 bound, in grid steps, that an honest sum of so many exceeds with odds below 1e-9.

        n·B + sqrt(n)·s·(sqrt(d) + sqrt(2 ln 1e9)) + n·sqrt(d)/2

    B bounds a rounded update, s is a share's standard deviation before it is rounded (Laurent and
    Massart 2000, Lemma 1), and rounding n shares moves each coordinate by at most n/2. A rotation
    keeps norms, so that the sum is looked at as it comes.
    """
    root = math.sqrt(plan.model.trainable_parameters)
    signal = contributors * math.sqrt(plan.squared_norm_bound)
    noise = math.sqrt(contributors) * plan.share_steps * (root + math.sqrt(2 * math.log(1 / _ODDS)))
    return signal + noise + contributors * root / 2
