"""Ensembles: several runs that answer as one."""
