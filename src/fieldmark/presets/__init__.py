"""Recipes that come with Fieldmark."""
