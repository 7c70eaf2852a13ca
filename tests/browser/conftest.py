"""The driver of the browsers is the same in all tests that need one."""

from chromium import playwright

__all__ = ["playwright"]
