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

/** Well apart from each other; reds are left to trouble. */
const HUES = [215, 160, 275, 95, 188, 315, 45, 245];
const given = new Map<string, number>();

/** By the name's hash; two names that meet on one hue are parted once both are known (assignHues). */
export const hue = (group: string): number => given.get(group) ?? HUES[Math.floor(unit(group) * HUES.length)]!;

/** Gives each namespace a hue of its own as long as there are any. `groups` come sorted; given hues stay. */
export function assignHues(groups: readonly string[]): void {
  for (const group of groups) {
    if (given.has(group)) continue;
    const preferred = HUES.indexOf(hue(group));
    const order = HUES.map((_, i) => HUES[(preferred + i) % HUES.length]!);
    const taken = new Set(given.values());
    given.set(group, order.find((h) => !taken.has(h)) ?? order[0]!);
  }
}

export interface GroupColors {
  fill: string;
  border: string;
  text: string;
  stroke: string;
}

export function groupColors(group: string, dark: boolean): GroupColors {
  if (group === "") {
    return dark
      ? { fill: "none", border: "none", text: "#a9b4c2", stroke: "#8b98a8" }
      : { fill: "none", border: "none", text: "#4b5766", stroke: "#6b7785" };
  }
  const h = hue(group);
  return dark
    ? { fill: `hsl(${h} 24% 12%)`, border: `hsl(${h} 22% 22%)`, text: `hsl(${h} 50% 75%)`, stroke: `hsl(${h} 55% 66%)` }
    : { fill: `hsl(${h} 62% 95%)`, border: `hsl(${h} 45% 84%)`, text: `hsl(${h} 58% 30%)`, stroke: `hsl(${h} 52% 42%)` };
}
