// What makes this page hard to read: text without contrast (WCAG 2.2, 1.4.3) or off the screen.
() => {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [red, green, blue] = channels(color).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (channels(color)[3] !== 0) return color;
    }
    return getComputedStyle(document.documentElement).colorScheme.includes("dark")
      && matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18, 18, 18)" : "rgb(255, 255, 255)";
  };
  const contrast = (element) => {
    const [dark, light] = [getComputedStyle(element).color, ground(element)].map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const isShown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());

  const page = document.documentElement;
  const problems = page.scrollWidth > page.clientWidth ? [`scrolls sideways: ${page.scrollWidth} px`] : [];
  for (const element of document.body.querySelectorAll("*")) {
    if (!isShown(element) || !hasText(element)) continue;
    const ratio = contrast(element);
    if (ratio < 4.5) problems.push(`${ratio.toFixed(1)}:1 ${element.textContent.trim().slice(0, 40)}`);
  }
  return problems;
}
