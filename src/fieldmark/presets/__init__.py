"""Recipes and studies that come with Fieldmark."""
