"""Scripts that measure a page in the browser: cut-off text, focus and contrast."""

#: Text spacing of WCAG 1.4.12.
APPLY_TEXT_SPACING = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    * { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important }
    p { margin-block-end: 2em !important }`);
  document.adoptedStyleSheets = [sheet];
}"""

#: Texts that are cut off, except previews whose full text is on another page.
CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const [style, hides] = [getComputedStyle(one), (overflow) => ["hidden", "clip"].includes(overflow)];
  const cut = (hides(style.overflowX) && one.scrollWidth > one.clientWidth + 1)
    || (hides(style.overflowY) && one.scrollHeight > one.clientHeight + 1);
  return cut && one.textContent.trim() && one.checkVisibility() && !one.closest(".unseen, .skip, .brief, .cut, svg");
}).map((one) => one.outerHTML.slice(0, 120))"""

#: Elements of a selector whose content overflows them.
WIDER_THAN_SHOWN = """(those) => those.filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.outerHTML.slice(0, 120))"""
HIGHER_THAN_SHOWN = """(those) => those.filter((one) => one.scrollHeight > one.clientHeight + 1)
  .map((one) => one.outerHTML.slice(0, 120))"""

TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"

#: The focused element: its text, and the fault of its focus indicator, if any.
FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const [style, box] = [getComputedStyle(one), one.getClientRects()[0]];
  const words = (one.getAttribute("aria-label") || one.textContent || one.name || "").trim().replace(/\\s+/g, " ");
  const wrong = (why) => ({ words, wrong: `${why}: ${one.outerHTML.slice(0, 120)}` });
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return wrong("no outline");
  const within = (from, to, end) => (Math.max(from, 0) + Math.min(to, end)) / 2;
  const [x, y] = [within(box.left, box.right, innerWidth), within(box.top, box.bottom, innerHeight)];
  if (x < box.left || x > box.right || y < box.top || y > box.bottom) return wrong("out of the window");
  const there = document.elementFromPoint(x, y);
  if (!there || !(one.contains(there) || there.contains(one))) return wrong("covered");
  return { words, wrong: "" };
}"""

#: The strongest contrast between two colours that each cover at least a fiftieth of a picture.
CONTRAST = """async (picture) => {
  const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes]));
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const [{ data }, counts] = [canvas.getImageData(0, 0, image.width, image.height), new Map()];
  for (let at = 0; at < data.length; at += 4) {
    const colour = data.slice(at, at + 3).join();
    counts.set(colour, (counts.get(colour) || 0) + 1);
  }
  const linear = (one) => (one <= 0.04 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  const lights = [...counts].filter(([, count]) => count > data.length / 200).map(([colour]) => {
    const [r, g, b] = colour.split(",").map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  });
  return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
}"""

#: Visible texts whose contrast with their background is below 4.5, as `text: contrast`.
FAINT_TEXTS = """() => {
  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const colours = new Map();
  const rgba = (colour) => {
    if (!colours.has(colour)) {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = colour;
      pixel.fillRect(0, 0, 1, 1);
      colours.set(colour, [...pixel.getImageData(0, 0, 1, 1).data]);
    }
    return colours.get(colour);
  };
  const light = (colour) => {
    const linear = (one) => (one <= 0.04 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const [text, element] = [texts.currentNode.data.trim(), texts.currentNode.parentElement];
    if (!text || element.closest(".unseen, .skip, title") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [dark, bright] = [light(ink), light(behind(element))].sort();
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < 4.5) faint.push(`${text}: ${contrast}`);
  }
  return faint;
}"""
