/** How the console looks; "auto": as the system does. */
export type Theme = "auto" | "light" | "dark";

const THEME = "pgquiver.theme";

/** The theme that the user has chosen. */
export function readTheme(): Theme {
  const stored = localStorage.getItem(THEME);
  return stored === "light" || stored === "dark" ? stored : "auto";
}

/** Shows a theme, and keeps it for the next visit. */
export function setTheme(theme: Theme): void {
  localStorage.setItem(THEME, theme);
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

/** Whether dark colours are shown. */
export function isDark(): boolean {
  const theme = readTheme();
  return theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark";
}
