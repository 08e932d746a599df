import { computed } from "@preact/signals";
import { Copy } from "../Copy";
import { select } from "../state/actions";
import { covers } from "../state/fold";
import { touches, type Selection } from "../state/selection";
import { namespace, nodesById, question, selection, serviceMap, window_ } from "../state/store";
import { command } from "../text/cli";
import { Shape } from "../map/Shape";
import { shape } from "../map/shapes";
import { Numbers } from "./Numbers";
import { EdgeList } from "./EdgeList";

/** Edges that the selection stands for. */
const chosenEdges = computed(() => {
  const s = selection.value;
  const edges = serviceMap.value?.edges ?? [];
  if (s === undefined) return [];
  return edges.filter(
    (e) =>
      touches(s, e) &&
      (s.type === "node" || s.proto === undefined || (e.proto === s.proto && e.port === s.port)),
  );
});

export function Panel() {
  const chosen = selection.value;
  if (chosen === undefined) return null;
  const edges = chosenEdges.value;
  return (
    <aside class="panel" aria-label="Selection">
      <button class="close" aria-label="Close" title="Close (Esc)" onClick={() => select(undefined)}>
        ×
      </button>
      {chosen.type === "node" ? <NodeTitle id={chosen.id} /> : <EdgeTitle edge={chosen} />}
      {edges.length === 0 && <p class="note">No flows in the last {window_.value}.</p>}
      {chosen.type === "node" ? (
        <>
          <EdgeList title="Calls" edges={edges.filter((e) => covers(chosen.id, e.source))} end="destination" />
          <EdgeList title="Called by" edges={edges.filter((e) => covers(chosen.id, e.destination))} end="source" />
        </>
      ) : (
        edges.length > 0 && <Numbers edges={edges} />
      )}
      <h3>The same in a terminal</h3>
      <Copy text={command(chosen, window_.value, namespace.value, nodesById.value, new URL(".", document.baseURI).href, question.value)} />
    </aside>
  );
}

function NodeTitle({ id }: { id: string }) {
  const node = nodesById.value.get(id);
  const workload = node?.workload && `${node.workload}${node.workload_kind ? ` (${node.workload_kind})` : ""}`;
  const facts: [string, string | undefined][] = [
    ["Namespace", node?.namespace],
    ["Workload", workload],
    ["Service", node?.service],
    ["Node", node?.node],
    ["Addresses", node?.addresses?.slice(0, 8).join(", ")],
  ];
  return (
    <>
      <h2>
        <Shape kind={node?.kind} group={node?.namespace} />
        <span>{node?.name || id}</span>
        <small>{shape(node?.kind).name}</small>
      </h2>
      <dl>
        {facts.map(([name, value]) =>
          value ? (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ) : null,
        )}
      </dl>
      {node?.kind === "group" && node.namespace && (
        <p class="open">
          <button onClick={() => (namespace.value = node.namespace!)}>Open namespace {node.namespace}</button>
        </p>
      )}
    </>
  );
}

function EdgeTitle({ edge }: { edge: Extract<Selection, { type: "edge" }> }) {
  const end = (id: string) => {
    const node = nodesById.value.get(id);
    return (
      <button class="link" onClick={() => select({ type: "node", id })}>
        <Shape kind={node?.kind} group={node?.namespace} />
        <span>{id}</span>
      </button>
    );
  };
  return (
    <h2 class="pair">
      {end(edge.source)}
      <span class="to">
        <span aria-hidden="true">↓</span>
        <span class="hidden">to</span>
        {edge.proto !== undefined && <small>{edge.port ? `port ${edge.port}, ${edge.proto}` : edge.proto}</small>}
      </span>
      {end(edge.destination)}
    </h2>
  );
}
