"""Geometry of convex sets: projections, proximal operators, domains, mirror maps and their divergences."""

from optlib.geometry.projections import (
    project_box,
    project_capped_simplex,
    project_ellipsoid,
    project_kl_cap,
    project_kl_floor,
    project_l1_ball,
    project_l2_ball,
    project_nuclear_ball,
    project_psd,
    project_simplex,
    project_spectrahedron,
    project_weighted_l1_ball,
    project_weighted_simplex,
)

__all__ = [
    "project_box",
    "project_capped_simplex",
    "project_ellipsoid",
    "project_kl_cap",
    "project_kl_floor",
    "project_l1_ball",
    "project_l2_ball",
    "project_nuclear_ball",
    "project_psd",
    "project_simplex",
    "project_spectrahedron",
    "project_weighted_l1_ball",
    "project_weighted_simplex",
]
