"""Speed, as ratios measured side by side in one run: these machines are noisy, so absolute numbers are only context."""
