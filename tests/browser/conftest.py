"""One driver and one Chromium for all tests of a file that need them."""

from chromium import browser, playwright

__all__ = ["browser", "playwright"]
