"""Measuring what training and inference cost, beside a reference that stays as it is."""
