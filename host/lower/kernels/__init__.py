"""Kernel families, one file each: a frozen configuration that can schedule itself for a target."""
