import { unit } from "./hash";

/** The canvas takes its colours from the style sheet, so that light and dark live in one place. */
export interface Theme {
  background: string;
  ink: string;
  muted: string;
  line: string;
  accent: string;
  bad: string;
  warn: string;
  node: string;
  dark: boolean;
  font: string;
}

export function readTheme(element: Element): Theme {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(name).trim();
  return {
    background: color("--map"),
    ink: color("--ink"),
    muted: color("--muted"),
    line: color("--edge"),
    accent: color("--accent"),
    bad: color("--bad"),
    warn: color("--warn"),
    node: color("--surface"),
    dark: color("--dark") === "1",
    font: style.fontFamily,
  };
}

/** A namespace keeps its hue wherever it appears; reds are left to trouble. */
export const hue = (group: string): number => Math.round(40 + unit(group) * 290);

export function groupColors(group: string, dark: boolean): { fill: string; border: string; text: string; stroke: string } {
  const h = hue(group);
  if (group === "") {
    return dark
      ? { fill: "none", border: "none", text: "#a9b4c2", stroke: "#8b98a8" }
      : { fill: "none", border: "none", text: "#4b5766", stroke: "#6b7785" };
  }
  return dark
    ? { fill: `hsl(${h} 26% 13%)`, border: `hsl(${h} 24% 22%)`, text: `hsl(${h} 48% 74%)`, stroke: `hsl(${h} 52% 64%)` }
    : { fill: `hsl(${h} 60% 96%)`, border: `hsl(${h} 42% 86%)`, text: `hsl(${h} 55% 30%)`, stroke: `hsl(${h} 50% 42%)` };
}
