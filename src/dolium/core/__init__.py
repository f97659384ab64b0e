"""The kernel boundary."""

PROGRAMS = __file__.rpartition("/")[0].rpartition("/")[0] + "/programs"
"""Where the build puts dolium-init, dolium-keep and what else a start need not make itself."""
