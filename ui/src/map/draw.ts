// Paints a scene. Knows about canvas and colours, nothing about where things come from.

import { RADIUS, width, type Curve, type View } from "./geometry";
import type { Graph, GraphLink } from "./graph";
import type { Point } from "./layout";
import type { Emphasis, Scene, SceneInput } from "./scene";
import { shape } from "./shapes";
import { groupColors, type Theme } from "./theme";

export interface Picture {
  graph: Graph;
  scene: Scene;
  places: ReadonlyMap<string, Point>;
  view: View;
  shown: SceneInput["shown"];
  emphasis: Emphasis | undefined;
  selected: string | undefined;
  pinned: ReadonlySet<string>;
  theme: Theme;
}

export const LABEL_FONT = "500 12px";
const FAINT = 0.1;
const BACK = 0.38;
/** Of healthy lines where there are more than MANY: names and trouble have to be seen through them. */
const THIN = 0.5;
const MANY = 60;

export function draw(ctx: CanvasRenderingContext2D, size: { width: number; height: number; ratio: number }, p: Picture) {
  const { view, theme } = p;
  ctx.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  ctx.fillStyle = theme.background;
  ctx.fillRect(0, 0, size.width, size.height);

  ctx.translate(view.x, view.y);
  ctx.scale(view.k, view.k);
  drawHulls(ctx, p);
  // Healthy lines first, so that trouble is on top.
  const links = [...p.graph.links].sort((a, b) => Number(a.bad > 0) - Number(b.bad > 0));
  for (const link of links) drawLink(ctx, p, link);
  for (const node of p.graph.nodes) drawNode(ctx, p, node.id, node.kind, node.hue);

  ctx.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  ctx.globalAlpha = 1;
  drawLabels(ctx, p);
}

function drawHulls(ctx: CanvasRenderingContext2D, p: Picture): void {
  ctx.lineJoin = "round";
  const lit = new Set(p.graph.nodes.filter((n) => p.shown?.nodes.has(n.id) !== false).map((n) => n.group));
  for (const { group, outline } of p.scene.hulls) {
    const colors = groupColors(group, p.theme.dark);
    const fill = lit.has(group) ? colors.fill : p.theme.background;
    const path = new Path2D();
    outline.forEach(({ x, y }, i) => (i === 0 ? path.moveTo(x, y) : path.lineTo(x, y)));
    path.closePath();
    const pen = (color: string, lineWidth: number) => {
      ctx.strokeStyle = color;
      ctx.lineWidth = lineWidth;
      ctx.stroke(path);
    };
    pen(colors.border, 32 + 2 / p.view.k);
    pen(fill, 32);
    ctx.fillStyle = fill;
    ctx.fill(path);
  }
}

function alpha(p: Picture, kind: "nodes" | "links", key: string): number {
  if (p.shown !== undefined && !p.shown[kind].has(key)) return FAINT;
  return p.emphasis !== undefined && !p.emphasis[kind].has(key) ? BACK : 1;
}

function linkColor(p: Picture, link: GraphLink): string {
  if (link.bad > 0) return p.theme.bad;
  if (p.emphasis?.links.has(link.key)) return p.theme.accent;
  return p.theme.line;
}

function drawLink(ctx: CanvasRenderingContext2D, p: Picture, link: GraphLink): void {
  const curve = p.scene.curves.get(link.key);
  if (curve === undefined) return;
  const line = width(link.bytesPerSecond) + (p.selected === link.key ? 1 : 0);
  const thin = link.bad === 0 && p.emphasis === undefined && p.graph.links.length > MANY;
  ctx.globalAlpha = alpha(p, "links", link.key) * (thin ? THIN : 1);
  ctx.strokeStyle = ctx.fillStyle = linkColor(p, link);
  ctx.lineWidth = line;
  ctx.lineCap = "butt";
  ctx.setLineDash(link.bad > 0 ? [7, 5] : []);
  ctx.beginPath();
  const end = back(curve, 4 + line);
  ctx.moveTo(curve.from.x, curve.from.y);
  ctx.quadraticCurveTo(curve.control.x, curve.control.y, end.x, end.y);
  ctx.stroke();
  ctx.setLineDash([]);
  arrow(ctx, curve, 7 + line * 1.1);
}

const back = ({ to, angle }: Curve, by: number): Point => ({
  x: to.x - Math.cos(angle) * by,
  y: to.y - Math.sin(angle) * by,
});

function arrow(ctx: CanvasRenderingContext2D, { to, angle }: Curve, size: number): void {
  const side = (turn: number) => ({
    x: to.x - size * Math.cos(angle + turn),
    y: to.y - size * Math.sin(angle + turn),
  });
  const [a, b] = [side(0.42), side(-0.42)];
  ctx.beginPath();
  ctx.moveTo(to.x, to.y);
  ctx.lineTo(a.x, a.y);
  ctx.lineTo(b.x, b.y);
  ctx.closePath();
  ctx.fill();
}

const outlines = new Map<string, Path2D>();

function outline(path: string): Path2D {
  let made = outlines.get(path);
  if (made === undefined) outlines.set(path, (made = new Path2D(path)));
  return made;
}

function drawNode(ctx: CanvasRenderingContext2D, p: Picture, id: string, kind: string, hue: string): void {
  const at = p.places.get(id);
  if (at === undefined) return;
  const { path, dashed } = shape(kind);
  const scale = RADIUS / 12;
  ctx.save();
  ctx.translate(at.x, at.y);
  ctx.scale(scale, scale);
  // The disc hides lines below it even when the node itself is faint.
  ctx.fillStyle = p.theme.node;
  ctx.fill(outline(path));
  ctx.globalAlpha = alpha(p, "nodes", id);
  ctx.strokeStyle = groupColors(hue, p.theme.dark).stroke;
  ctx.lineWidth = 1.9;
  if (dashed) ctx.setLineDash([3, 3]);
  ctx.stroke(outline(path));
  ctx.fillStyle = ctx.strokeStyle;
  ctx.beginPath();
  ctx.arc(0, 0, p.pinned.has(id) ? 4 : 2.6, 0, 2 * Math.PI);
  ctx.fill();
  if (p.selected === id) {
    ctx.setLineDash([]);
    ctx.strokeStyle = p.theme.accent;
    ctx.lineWidth = 2.4;
    ctx.beginPath();
    ctx.arc(0, 0, 16, 0, 2 * Math.PI);
    ctx.stroke();
  }
  ctx.restore();
}

function drawLabels(ctx: CanvasRenderingContext2D, p: Picture): void {
  const { theme } = p;
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.lineJoin = "round";

  ctx.font = `600 12px ${theme.font}`;
  for (const { key, text, x, y } of p.scene.labels.groups) {
    ctx.strokeStyle = theme.background;
    ctx.lineWidth = 3;
    ctx.strokeText(text, x, y);
    ctx.fillStyle = groupColors(key, theme.dark).text;
    ctx.fillText(text, x, y);
  }

  ctx.font = `${LABEL_FONT} ${theme.font}`;
  const groups = new Map(p.graph.nodes.map((n) => [n.id, n.group]));
  for (const { key, text, x, y } of p.scene.labels.nodes) {
    ctx.globalAlpha = Math.max(alpha(p, "nodes", key), 0.45);
    const group = groups.get(key) ?? "";
    ctx.strokeStyle = group ? groupColors(group, theme.dark).fill : theme.background;
    ctx.lineWidth = 4;
    ctx.strokeText(text, x, y);
    ctx.fillStyle = theme.ink;
    ctx.fillText(text, x, y);
  }
  ctx.globalAlpha = 1;

  const bad = new Map(p.graph.links.map((l) => [l.key, l.bad > 0]));
  for (const { key, text, x, y } of p.scene.labels.links) {
    if (p.emphasis !== undefined && !p.emphasis.links.has(key)) continue;
    badge(ctx, theme, text, x, y, bad.get(key) === true);
  }
}

function badge(ctx: CanvasRenderingContext2D, theme: Theme, text: string, x: number, y: number, bad: boolean): void {
  const w = ctx.measureText(text).width + 12;
  ctx.fillStyle = theme.node;
  ctx.strokeStyle = bad ? theme.bad : theme.accent;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.roundRect(Math.round(x - w / 2) + 0.5, Math.round(y - 9) + 0.5, Math.round(w), 18, 9);
  ctx.fill();
  ctx.stroke();
  ctx.fillStyle = bad ? theme.bad : theme.ink;
  ctx.fillText(text, x, y + 0.5);
}

