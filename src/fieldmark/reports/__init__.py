"""Figures and reports made from what a run left behind."""
