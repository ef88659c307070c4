// What every page's frame does: the theme's switch, signing out, and saying that a session has ended.

import { call, signIn } from "./api.js";
import { el, find, set } from "./dom.js";

const THEMES = { system: "as the system has it", light: "light", dark: "dark" };
const SYMBOLS = { system: "◐", light: "☀", dark: "☾" };
const root = document.documentElement;

function showTheme(button) {
  const theme = root.dataset.theme ?? "system";
  button.textContent = SYMBOLS[theme];
  set(button, { "aria-label": `Theme: ${THEMES[theme]}. Change it`, title: `Theme: ${THEMES[theme]}` });
}

function nextTheme(button) {
  const names = Object.keys(THEMES);
  const theme = names[(names.indexOf(root.dataset.theme ?? "system") + 1) % names.length];
  if (theme === "system") {
    delete root.dataset.theme;
    localStorage.removeItem("thumbwheel:theme");
  } else {
    root.dataset.theme = theme;
    localStorage.setItem("thumbwheel:theme", theme);
  }
  showTheme(button);
  document.dispatchEvent(new CustomEvent("themechange"));
}

async function signOut() {
  try {
    await call("POST", "/signout");
  } catch (error) {
    if (error.status !== 401) {
      showBanner(error.message);
      return;
    }
  }
  location.assign("/signin");
}

function showBanner(...content) {
  const banner = find("#banner");
  banner.replaceChildren(...content);
  banner.hidden = false;
}

const theme = find("#theme");
theme.hidden = false;
showTheme(theme);
theme.addEventListener("click", () => nextTheme(theme));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.dispatchEvent(new CustomEvent("themechange")),
);
find("#sign-out")?.addEventListener("click", signOut);
document.addEventListener("signedout", () => {
  const link = el("a", { href: signIn() }, "Sign in again");
  showBanner("You are signed out: the session ended, or its key was revoked. ", link);
});
