"""A campaign, round by round: select, charge, dispatch, collect, apply, checkpoint, publish."""
