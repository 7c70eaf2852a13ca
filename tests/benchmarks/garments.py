"""How fast the page of garments is: milliseconds a call, redraws a second, seconds for 16 images.

python tests/benchmarks/garments.py

In headless Chromium, on one thread, in the page's own worker and with its own requests.  What is
printed is the best of several runs; on a machine that does something else it is an upper limit.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]
TIMES = 3
BEST = """async ([request, times]) => {
    let best = Infinity;
    for (let i = 0; i < times; i++) best = Math.min(best, await client.draw(request, () => {}));
    return best;
}"""
REQUEST = {"network": "fashion_mnist", "sampler": "dpm++", "seed": 0, "y": None, "w": 1, "t": 0}


def main() -> None:
    """Build the page, open it from file://, and measure."""
    import live
    from chromium import launched

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        built = live.build(Path(folder), ("fashion_mnist",))
        browser = launched(playwright)
        page = browser.new_page()
        page.goto(f"{built.as_uri()}#count=1&steps=1")
        page.wait_for_function("() => frames.length && !drawing")

        def ms(count: int, steps: int, **more: object) -> float:
            request = REQUEST | {"count": count, "steps": steps} | more
            return page.evaluate(BEST, [request, TIMES])

        for count in (1, 2, 4, 16):
            print(f"a call for {count:2} images: {ms(count, 10) / 10:6.1f} ms")
        follow = ms(1, 5, between=[0.3, 0.6])
        print(f"an image by 5 evaluations: {1000 / follow:.1f} redraws a second")
        print(f"16 images by 10 evaluations: {ms(16, 10) / 1000:.2f} s")
        browser.close()


if __name__ == "__main__":
    main()
