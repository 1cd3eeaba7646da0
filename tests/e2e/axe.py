"""axe-core in a page: its rules for WCAG 2.2 AA and its best practices, on what is shown in each view."""

from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect

SOURCE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Rules that look at colours. Where only the colours differ, nothing else has to be looked at again.
COLOURS = ["color-contrast", "link-in-text-block"]
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 800}
View = tuple[str, ViewportSize, list[str]]
VIEWS: list[View] = [
    ("light", DESK, TAGS),
    ("dark", PHONE, TAGS),
]
# And once what a phone does not show, such as the side bar and the heads of tables.
ALL_VIEWS = [*VIEWS, ("dark", DESK, COLOURS)]
# Colours that pass from one scheme to the other are neither.
SCRIPT = """
const still = new CSSStyleSheet();
still.replaceSync("*, *::before, *::after { transition: none !important; animation: none !important; }");
document.adoptedStyleSheets.push(still);
"""
_RUN = """async ([part, rules]) => {
  const found = await axe.run(part, { runOnly: rules, resultTypes: ["violations"], selectors: false });
  return { passed: found.passes.length, violations: found.violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id} (${rule.impact}): ${node.failureSummary.replaceAll(/\\s+/g, " ")} At ${node.html}`)) };
}"""


def violations_of(page: Page, part: str = "html", views: list[View] = VIEWS) -> list[str]:
    """What axe-core finds wrong with a page or a part of it. Its window runs `SOURCE` and `SCRIPT`."""
    found: list[str] = []
    for scheme, size, rules in views:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        result = page.evaluate(_RUN, [part, rules])
        assert result["passed"], "axe-core looked at nothing"
        found += [f"{scheme}, {size['width']} px: {violation}" for violation in result["violations"]]
    return found
