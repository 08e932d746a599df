import { computed, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { EmptyView } from "../EmptyView";
import { select } from "../state/actions";
import { empty, stale } from "../state/views";
import { edgeText } from "../state/selection";
import { announcement, folded, found, mapSeconds, question, selection, serviceMap } from "../state/store";
import { count, plural } from "../text/format";
import { buildGraph } from "./graph";
import { Shape } from "./Shape";
import { LEGEND } from "./shapes";
import type { Target } from "./hit";
import { createMapView, type MapView } from "./view";

const graph = computed(() => (folded.value ? buildGraph(folded.value.map, mapSeconds.value) : undefined));

/** The node that stands for an id on the map. */
const drawn = (id: string): string => folded.value?.of(id) ?? id;

const linkKey = (e: { source: string; destination: string }): string => edgeText(drawn(e.source), drawn(e.destination));

const shown = computed(() =>
  question.value === ""
    ? undefined
    : { nodes: new Set([...found.value.ids].map(drawn)), links: new Set(found.value.edges.map(linkKey)) },
);

function pick(target: Target | undefined): void {
  if (target?.type === "node") return select({ type: "node", id: target.id });
  const link = target && graph.value?.links.find((l) => l.key === target.key);
  select(link && { type: "edge", source: link.source, destination: link.destination });
}

export function MapPane() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<MapView | null>(null);

  useEffect(() => {
    view.current = createMapView(canvas.current!, pick);
    return () => view.current?.stop();
  }, []);
  useSignalEffect(() => {
    if (graph.value) view.current?.setGraph(graph.value);
  });
  useSignalEffect(() => view.current?.setShown(shown.value));
  useSignalEffect(() => {
    const s = selection.value;
    view.current?.setSelected(
      s && (s.type === "node" ? { type: "node", id: drawn(s.id) } : { type: "link", key: linkKey(s) }),
    );
  });

  const size = graph.value;
  const isFolded = folded.value !== undefined && folded.value.map !== serviceMap.value;
  // Connections as the table below counts them: a line may stand for several ports.
  const text = size ? `${plural(size.nodes.length, "node")}, ${plural(serviceMap.value!.edges.length, "connection")}` : "";
  return (
    <section class={`map ${stale.value ? "stale" : ""}`} aria-label="Service map">
      <canvas ref={canvas} role="img" aria-label={`Map of ${text}. The Connections tab lists the same as text.`} />
      <div class="tools" role="group" aria-label="Map">
        <button title="Zoom in" aria-label="Zoom in" onClick={() => view.current?.zoomBy(1.3)}>
          +
        </button>
        <button title="Zoom out" aria-label="Zoom out" onClick={() => view.current?.zoomBy(1 / 1.3)}>
          −
        </button>
        <button title="Show everything" onClick={() => view.current?.fit()}>
          Fit
        </button>
        <button title="Forget dragged places and arrange anew" onClick={() => view.current?.reset()}>
          Arrange
        </button>
      </div>
      <Legend several={size?.nodes.some((node) => node.kind === "group") ?? false} />
      {text && (
        <p class="size">
          {shown.value ? `${count(shown.value.nodes.size)} of ${text}` : text}
          {isFolded && `, standing for ${plural(serviceMap.value!.nodes.length, "node")}: choose a namespace to open it`}
          {serviceMap.value?.more && <b> · only the busiest connections: choose a namespace or a shorter window</b>}
        </p>
      )}
      {empty.value && <EmptyView state={empty.value} />}
      <p class="hidden" role="status" aria-live="polite">
        {announcement}
      </p>
    </section>
  );
}

function Legend({ several }: { several: boolean }) {
  return (
    <ul class="legend" aria-label="Legend">
      {LEGEND.map(({ kind, text }) => (
        <li key={kind}>
          <Shape kind={kind} /> {text}
        </li>
      ))}
      {several && (
        <li>
          <Shape kind="group" /> several
        </li>
      )}
      <li>
        <svg class="line" viewBox="0 0 26 10" aria-hidden="true">
          <path d="M0 5 H18" />
          <path class="head" d="M26 5 L17 1 V9 Z" />
        </svg>
        {" thicker: more bytes/s"}
      </li>
      <li class="bad">
        <svg class="line" viewBox="0 0 26 10" aria-hidden="true">
          <path d="M0 5 H18" stroke-dasharray="5 3" />
          <path class="head" d="M26 5 L17 1 V9 Z" />
        </svg>
        {" drops, resets, fails"}
      </li>
    </ul>
  );
}
