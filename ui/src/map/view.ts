// The map on its canvas: pointer, zoom, motion, and one picture per frame in which something changed.

import { select } from "d3-selection";
import { zoom, zoomIdentity, type D3ZoomEvent } from "d3-zoom";
import { middle } from "../text/format";
import { draw, LABEL_FONT } from "./draw";
import { fit, type View } from "./geometry";
import type { Graph } from "./graph";
import { hit, hitIndex, type HitIndex, type Target } from "./hit";
import type { Point } from "./layout";
import { moveNodes, moveView, progress, type Move } from "./motion";
import { createPlaces } from "./places";
import { curves, scene, type Emphasis, type SceneInput } from "./scene";
import { readTheme } from "./theme";

const LONGEST_LABEL = 24;
const CLICK_PIXELS = 4;

export interface MapView {
  setGraph(graph: Graph): void;
  setShown(shown: SceneInput["shown"]): void;
  setSelected(target: Target | undefined): void;
  fit(): void;
  zoomBy(factor: number): void;
  reset(): void;
  stop(): void;
}

export function createMapView(canvas: HTMLCanvasElement, picked: (target: Target | undefined) => void): MapView {
  const ctx = canvas.getContext("2d", { alpha: false })!;
  const events = new AbortController();
  const colorScheme = matchMedia("(prefers-color-scheme: dark)");
  const widths = new Map<string, number>();

  let graph: Graph = { nodes: [], links: [] };
  let texts: Map<string, { text: string; width: number }> = new Map();
  let shown: SceneInput["shown"];
  let selected: Target | undefined;
  let hovered: Target | undefined;
  let view: View = { k: 1, x: 0, y: 0 };
  let size = { width: 0, height: 0, ratio: 1 };
  let theme = readTheme(canvas);
  let index: HitIndex | undefined;
  let move: Move | undefined;
  let movedByHand = false;
  let dragging: { id: string; grab: Point; moved: boolean; start: Point } | undefined;
  let frame = 0;

  const places = createPlaces((targets, first) => {
    const viewTo = movedByHand ? undefined : fit(targets.values(), size.width, size.height);
    move = { start: performance.now(), from: new Map(places.now), to: targets, viewFrom: view, viewTo };
    if (first && viewTo) view = { ...viewTo, k: viewTo.k * 0.92 };
    redraw(true);
  });

  function redraw(moved = false): void {
    if (moved) index = undefined;
    if (frame === 0) frame = requestAnimationFrame(paint);
  }

  function measure(text: string): number {
    let width = widths.get(text);
    if (width === undefined) {
      if (widths.size > 5000) widths.clear();
      ctx.font = `${LABEL_FONT} ${theme.font}`;
      width = ctx.measureText(text).width;
      widths.set(text, width);
    }
    return width;
  }

  function emphasis(): Emphasis | undefined {
    const target = hovered ?? selected;
    if (target === undefined) return undefined;
    const touching = graph.links.filter((l) =>
      target.type === "node" ? l.source === target.id || l.destination === target.id : l.key === target.key,
    );
    const nodes = new Set(touching.flatMap((l) => [l.source, l.destination]));
    if (target.type === "node") nodes.add(target.id);
    // Something that has left the map cannot be pointed at: then nothing steps back.
    if (![...nodes].some((id) => places.now.has(id))) return undefined;
    return { nodes, links: new Set(touching.map((l) => l.key)) };
  }

  function paint(time: number): void {
    frame = 0;
    if (size.width === 0) return;
    if (move !== undefined) {
      const t = progress(move, time);
      moveNodes(move, t, places.now);
      const next = moveView(move, t);
      if (next && !movedByHand) setView(next);
      if (t >= 1) move = undefined;
      redraw(true);
    }
    const at = emphasis();
    const input = { graph, places: places.now, view, texts, shown, emphasis: at, measure };
    const chosen = selected?.type === "node" ? selected.id : selected?.key;
    draw(ctx, size, { ...input, scene: scene(input), selected: chosen, pinned: places.pinned, theme });
  }

  const behavior = zoom<HTMLCanvasElement, unknown>()
    .scaleExtent([0.1, 4])
    .filter((event: MouseEvent) => {
      if (event.type === "wheel") return true;
      return event.button === 0 && under(event)?.type !== "node";
    })
    .on("zoom", (event: D3ZoomEvent<HTMLCanvasElement, unknown>) => {
      view = { k: event.transform.k, x: event.transform.x, y: event.transform.y };
      if (event.sourceEvent) movedByHand = true;
      redraw();
    });
  const root = select(canvas);
  root.call(behavior).on("dblclick.zoom", null);

  function setView(next: View): void {
    root.call(behavior.transform, zoomIdentity.translate(next.x, next.y).scale(next.k));
  }

  function position(event: { clientX: number; clientY: number }): Point {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left - view.x) / view.k, y: (event.clientY - box.top - view.y) / view.k };
  }

  function under(event: MouseEvent | TouchEvent): Target | undefined {
    const point = "touches" in event ? event.touches[0] : event;
    if (point === undefined) return undefined;
    index ??= hitIndex(places.now, curves(graph, places.now));
    const target = hit(index, position(point), view.k);
    if (target === undefined || shown === undefined) return target;
    const visible = target.type === "node" ? shown.nodes.has(target.id) : shown.links.has(target.key);
    return visible ? target : undefined;
  }

  function hover(target: Target | undefined): void {
    if (JSON.stringify(target) === JSON.stringify(hovered)) return;
    hovered = target;
    canvas.style.cursor = target ? "pointer" : "";
    redraw();
  }

  const on = <K extends keyof HTMLElementEventMap>(type: K, listener: (event: HTMLElementEventMap[K]) => void) =>
    canvas.addEventListener(type, listener, { signal: events.signal });

  on("pointerdown", (event) => {
    const target = under(event);
    if (target?.type !== "node" || event.button !== 0) return;
    const place = places.now.get(target.id)!;
    const at = position(event);
    dragging = { id: target.id, grab: { x: place.x - at.x, y: place.y - at.y }, moved: false, start: { x: event.clientX, y: event.clientY } };
    canvas.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    if (dragging === undefined) {
      if (event.buttons === 0) hover(under(event));
      return;
    }
    const far = Math.hypot(event.clientX - dragging.start.x, event.clientY - dragging.start.y) > CLICK_PIXELS;
    dragging.moved ||= far;
    if (!dragging.moved) return;
    const at = position(event);
    if (move) moveNodes(move, 1, places.now);
    move = undefined;
    movedByHand = true;
    places.drag(dragging.id, { x: at.x + dragging.grab.x, y: at.y + dragging.grab.y });
    redraw(true);
  });
  on("pointerup", () => {
    if (dragging?.moved) places.drop();
    // The click that follows still has to know.
    const done = dragging;
    setTimeout(() => {
      if (dragging === done) dragging = undefined;
    });
  });
  on("pointercancel", () => (dragging = undefined));
  on("pointerleave", () => hover(undefined));
  on("click", (event) => {
    if (!dragging?.moved) picked(under(event));
    dragging = undefined;
  });
  on("dblclick", (event) => {
    const target = under(event);
    if (target?.type === "node") places.unpin(target.id);
    redraw();
  });
  colorScheme.addEventListener("change", restyle, { signal: events.signal });

  function restyle(): void {
    theme = readTheme(canvas);
    redraw();
  }

  const resizes = new ResizeObserver(() => {
    const { width, height } = canvas.getBoundingClientRect();
    const ratio = devicePixelRatio;
    const before = size;
    size = { width, height, ratio };
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    // Paint now: a resized canvas is blank until it is painted.
    if (!movedByHand && move === undefined && before.width > 0) setView(fit(places.now.values(), width, height));
    if (move?.viewTo) move.viewTo = fit(move.to.values(), width, height);
    cancelAnimationFrame(frame);
    paint(performance.now());
  });
  resizes.observe(canvas);

  function fitAll(): void {
    movedByHand = false;
    const to = move?.to ?? new Map(places.now);
    move = {
      start: performance.now(),
      from: new Map(places.now),
      to,
      viewFrom: view,
      viewTo: fit(to.values(), size.width, size.height),
    };
    redraw();
  }

  function arrange(): void {
    places.arrange(graph, (id) => texts.get(id)?.width ?? 0);
  }

  return {
    setGraph(next) {
      graph = next;
      texts = new Map(
        graph.nodes.map((n) => {
          const text = middle(n.label, LONGEST_LABEL);
          return [n.id, { text, width: measure(text) }];
        }),
      );
      arrange();
      redraw(true);
    },
    setShown(next) {
      shown = next;
      redraw();
    },
    setSelected(target) {
      selected = target;
      redraw();
    },
    fit: fitAll,
    zoomBy(factor) {
      movedByHand = true;
      root.call(behavior.scaleBy, factor);
    },
    reset() {
      places.reset();
      movedByHand = false;
      arrange();
    },
    stop() {
      events.abort();
      resizes.disconnect();
      cancelAnimationFrame(frame);
      places.stop();
      root.on(".zoom", null);
    },
  };
}
