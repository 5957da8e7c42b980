"""Filter pruning: groups of channels that go together, criteria, sensitivity, targets."""
