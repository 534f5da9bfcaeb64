"""Long time lags: generated series of numbers."""
