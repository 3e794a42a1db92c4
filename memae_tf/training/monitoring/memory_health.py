"""Signs of a collapsed memory in the figures of `MemoryUnit.health`, in words."""

import math

# The rules should find a memory that does not work, not one that could work better. Sound runs of
# docs/results, with and without shrinkage, with 50 and 200 slots, have a live share of 1.0, a
# perplexity of 2.8 to 39 and a largest weight of 4 / N or more. A dot product with 2,000 slots and
# a shrinkage of 5 / N leaves 5% of the queries live after a short training, and 70% after the
# paper's. Dead slots alone are no collapse: in the same runs up to a third of the slots are dead.
#
# With a smaller share, most queries fall back, and shrinkage does nothing for them.
MIN_LIVE_SHARE = 0.5
# The perplexity if one slot has about nine tenths of the use. With few slots that may be right:
# with fewer than this number, the memory has collapsed only if one slot has all of the use.
MIN_PERPLEXITY = 1.5
MIN_SLOTS_FOR_PERPLEXITY = 10
# In units of 1 / N. A cosine with scale 1, the flattest softmax in use, gives 1.2 to 2.
MIN_LARGEST_WEIGHT = 1.5


def diagnose(health: dict[str, float], num_slots: int) -> str | None:
    """Finds out whether a memory has collapsed.

    Args:
        health: From `MemoryUnit.health`, over normal data that the model was trained on.
        num_slots: The number of slots of the memory.

    Returns:
        A line with figures and what to try: most queries lose all slots to shrinkage, all queries
        use one slot, every query reads the same average of all slots, or weights are NaN. `None`
        if nothing is wrong.
    """
    if math.isnan(health["largest_weight"]):
        return "training has diverged: the addressing is not a number; lower the learning rate"
    if num_slots == 1:
        return None
    live = health["live_share"]
    if live < MIN_LIVE_SHARE:
        return (
            f"the memory has collapsed: only {live:.0%} of the queries keep a slot after "
            "shrinkage; lower model.memory.shrink, raise model.memory.scale, or use fewer slots "
            f"than {num_slots}"
        )
    advice = (
        "lower model.memory.entropy_weight or model.memory.scale, or use similarity cosine "
        "instead of dot"
    )
    if health["slots_used"] <= 1:
        return f"the memory has collapsed: all queries use 1 of {num_slots} slots; {advice}"
    if num_slots >= MIN_SLOTS_FOR_PERPLEXITY and health["perplexity"] < MIN_PERPLEXITY:
        return (
            "the memory has collapsed: one slot has nearly all of the use (perplexity "
            f"{health['perplexity']:.2f} with {num_slots} slots); {advice}"
        )
    ratio = health["largest_weight"] * num_slots
    if health["slots_per_query"] > num_slots / 2 and ratio < MIN_LARGEST_WEIGHT:
        return (
            "the memory has collapsed: every query reads nearly the same average of all "
            f"{num_slots} slots (its largest weight is {ratio:.2f} times that of an even use); "
            "raise model.memory.scale or model.memory.entropy_weight"
        )
    return None
