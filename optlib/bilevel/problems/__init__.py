"""Bilevel problems with analytic derivatives."""
