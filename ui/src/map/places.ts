// Where nodes stand now: asks the worker when the set of nodes changes, moves them there, remembers what was dragged.

import type { Graph } from "./graph";
import type { LayoutInput, Point } from "./layout";
import type { LayoutRequest } from "./worker";

const PINS = "flowobs.pins";
const MAX_PINS = 300;
/** Nodes that left the map come back to where they stood, as long as there are not too many of them. */
const MAX_REMEMBERED = 3000;

export interface Places {
  now: Map<string, Point>;
  pinned: Set<string>;
  /** Asks for a layout if these nodes are not those of the last one. */
  arrange(graph: Graph, widths: (id: string) => number): void;
  drag(id: string, to: Point): void;
  drop(): void;
  unpin(id: string): void;
  /** Forgets all places and pins. */
  reset(): void;
  stop(): void;
}

function loadPins(): Map<string, Point> {
  try {
    const stored = JSON.parse(localStorage.getItem(PINS) ?? "{}") as Record<string, [number, number]>;
    return new Map(Object.entries(stored).map(([id, [x, y]]) => [id, { x, y }]));
  } catch {
    return new Map();
  }
}

export function createPlaces(arrived: (targets: Map<string, Point>, first: boolean) => void): Places {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const remembered = loadPins();
  const pinned = new Set(remembered.keys());
  const now = new Map<string, Point>();
  let ids = "";
  let turn = 0;
  let first = true;

  worker.onmessage = (event: MessageEvent<{ turn: number; points: Map<string, Point> }>) => {
    if (event.data.turn !== turn) return;
    for (const [id, point] of event.data.points) if (!pinned.has(id)) remember(id, point);
    const targets = new Map([...event.data.points.keys()].map((id) => [id, remembered.get(id)!]));
    arrived(targets, first);
    first = false;
  };

  function remember(id: string, point: Point): void {
    remembered.delete(id);
    remembered.set(id, point);
    if (remembered.size <= MAX_REMEMBERED) return;
    for (const oldest of remembered.keys()) {
      if (!pinned.has(oldest)) {
        remembered.delete(oldest);
        return;
      }
    }
  }

  function save(): void {
    const pins = [...pinned].slice(-MAX_PINS).map((id) => {
      const { x, y } = remembered.get(id)!;
      return [id, [Math.round(x), Math.round(y)]];
    });
    try {
      localStorage.setItem(PINS, JSON.stringify(Object.fromEntries(pins)));
    } catch {
      // No storage in this browser: pins last as long as the page.
    }
  }

  return {
    now,
    pinned,
    arrange(graph, widths) {
      const wanted = graph.nodes
        .map((n) => n.id)
        .sort()
        .join("\n");
      if (wanted === ids) return;
      ids = wanted;
      const input: LayoutInput = {
        nodes: graph.nodes.map((n) => ({
          id: n.id,
          group: n.group,
          rank: n.rank,
          width: Math.max(44, widths(n.id)) + 18,
          height: 66,
          ...remembered.get(n.id),
          pinned: pinned.has(n.id),
        })),
        links: graph.links.map((l) => ({ source: l.source, target: l.destination })),
      };
      turn += 1;
      worker.postMessage({ ...input, turn } satisfies LayoutRequest);
    },
    drag(id, to) {
      pinned.delete(id);
      pinned.add(id);
      remember(id, to);
      now.set(id, to);
    },
    drop: save,
    unpin(id) {
      pinned.delete(id);
      save();
    },
    reset() {
      pinned.clear();
      remembered.clear();
      ids = "";
      first = true;
      save();
    },
    stop: () => worker.terminate(),
  };
}
