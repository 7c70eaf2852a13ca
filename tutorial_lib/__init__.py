"""Diffusion models from first principles: the tested code behind the notebooks."""

__version__ = "0.1.0"
