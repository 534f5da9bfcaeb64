"""Generated series of numbers with long time lags."""
