// Hover details, the same episode lit in both charts, and the theme switch; the page works without.
(() => {
  const tip = document.getElementById("tip");
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + box.height + 24 > innerHeight ? y - box.height - 12 : y + 16) + "px";
  };
  const light = (element, on) => {
    const number = element.dataset.episode;
    const section = number && element.closest("section");
    if (!section) return;
    for (const twin of section.querySelectorAll(`[data-episode="${number}"]`)) twin.classList.toggle("lit", on);
  };
  let shown = null;
  const hide = () => {
    if (shown) light(shown, false);
    shown = null;
    tip.hidden = true;
  };
  const show = (element, x, y) => {
    if (element !== shown) {
      hide();
      shown = element;
      tip.textContent = element.dataset.tip;
      tip.hidden = false;
      light(element, true);
    }
    place(x, y);
  };
  document.addEventListener("pointermove", (event) => {
    const element = event.target.closest?.("[data-tip]");
    element ? show(element, event.clientX, event.clientY) : hide();
  });
  document.addEventListener("focusin", (event) => {
    const element = event.target.closest?.("[data-tip]");
    if (!element) return;
    const box = element.getBoundingClientRect();
    show(element, box.left + box.width / 2, box.top + box.height / 2);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { passive: true });
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
