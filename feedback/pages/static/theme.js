// Light, dark, or as the system has it. A classic script in the head: no page may flash in the wrong one.
(() => {
  const root = document.documentElement;
  const stored = localStorage.getItem("thumbwheel:theme");
  if (stored === "light" || stored === "dark") root.dataset.theme = stored;
})();
