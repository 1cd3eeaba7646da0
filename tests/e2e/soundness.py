"""What must hold on every page, light and dark, on a desk and on a phone."""

from playwright.sync_api import Page, expect

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
_UNNAMED_CONTROLS = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
  .filter((one) => !one.labels.length && !one.ariaLabel).map((one) => one.outerHTML)"""
_REPEATED_IDS = """() => [...document.querySelectorAll("[id]")].map((one) => one.id)
  .filter((id, at, all) => all.indexOf(id) !== at)"""
# A canvas turns whatever a browser says as a colour, and layers of them, into red, green and blue.
_COLOURS = """
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const painted = new Map();
  const paint = (colours) => {
    const layers = colours.join();
    if (!painted.has(layers)) {
      canvas.clearRect(0, 0, 1, 1);
      for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
      painted.set(layers, canvas.getImageData(0, 0, 1, 1).data);
    }
    return painted.get(layers);
  };
  const backgrounds = (one) => {
    const found = [];
    for (; one; one = one.parentElement) found.unshift(getComputedStyle(one).backgroundColor);
    return found;
  };
"""
BRIGHTNESS = f"""() => {{ {_COLOURS}
  const [red, green, blue] = paint(backgrounds(document.body));
  return (red + green + blue) / 3;
}}"""
# WCAG 2.2, 1.4.3: 4.5 to 1, and 3 to 1 for large text; what cannot be used is exempt.
_FAINT_TEXTS = f"""() => {{ {_COLOURS}
  const luminance = (pixel) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => {{
    const part = pixel[at] / 255;
    return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }}, 0);
  document.getAnimations().forEach((animation) => animation.finish());
  const faint = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {{
    const one = texts.currentNode.parentElement;
    const isShown = one.checkVisibility() && !one.closest(":disabled, .visually-hidden, option");
    if (!isShown || !texts.currentNode.data.trim()) continue;
    const style = getComputedStyle(one);
    const layers = backgrounds(one);
    const lights = [luminance(paint(layers)), luminance(paint([...layers, style.color]))].sort((a, b) => b - a);
    const contrast = (lights[0] + 0.05) / (lights[1] + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) faint.add(`${{contrast.toFixed(2)}} to 1: ${{texts.currentNode.data.trim()}}`);
  }}
  return [...faint];
}}"""


def problems_of(page: Page) -> list[str]:
    """What is wrong with the page that is shown. Console and requests are watched by the window itself."""
    headings = page.get_by_role("heading", level=1).count()
    mains = page.get_by_role("main").count()
    found = [f"{headings} headings of level 1"] if headings != 1 else []
    found += [f"{mains} main landmarks"] if mains != 1 else []
    found += [f"without a name: {control}" for control in page.evaluate(_UNNAMED_CONTROLS)]
    found += [f"the id {one} twice" for one in page.evaluate(_REPEATED_IDS)]
    for scheme, size in (("light", DESK), ("dark", PHONE)):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        found += [f"{scheme}, contrast {text}" for text in page.evaluate(_FAINT_TEXTS)]
        found += [f"not {scheme}"] if (page.evaluate(BRIGHTNESS) > 128) != (scheme == "light") else []
        width = page.evaluate("() => document.documentElement.scrollWidth")
        found += [f"{width} px wide in a window of {size['width']}"] if width > size["width"] else []
    return found
