import { computed } from "@preact/signals";
import { Copy } from "../Copy";
import { openNamespace, select } from "../state/actions";
import { endFacts, wayFacts, type Facts } from "../state/facts";
import { covers, everyPod, OUTSIDE } from "../state/fold";
import { labelKey } from "../state/groups";
import { touches, type Selection } from "../state/selection";
import { group, namespace, nodesById, question, selection, serviceMap, visibleRows, window_ } from "../state/store";
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
          <Details facts={endFacts(records(), chosen.id, group.value)} />
        </>
      ) : (
        <>
          {edges.length > 0 && <Numbers edges={edges} />}
          <FactList facts={wayFacts(records())} />
        </>
      )}
      <h3>The same in a terminal</h3>
      <Copy text={command(chosen, window_.value, namespace.value, nodesById.value, new URL(".", document.baseURI).href, question.value, group.value)} />
    </aside>
  );
}

/** Records of the selection at hand, newest first. */
const records = () => visibleRows.value.filter((row) => row.severity !== "lost").map((row) => row.record);

const addresses = (all: readonly string[]): string =>
  all.slice(0, 8).join(", ") + (all.length > 8 ? ` and ${all.length - 8} more` : "");

function Details({ facts }: { facts: Facts }) {
  if (facts.length === 0) return null;
  return (
    <>
      <h3>On its newest record</h3>
      <FactList facts={facts} />
    </>
  );
}

function FactList({ facts }: { facts: Facts }) {
  if (facts.length === 0) return null;
  return (
    <dl>
      {facts.map(([name, value]) => (
        <div key={name} class={value.endsWith(" old") ? "warn-text" : ""}>
          <dt>{name}</dt>
          <dd class="lines">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function NodeTitle({ id }: { id: string }) {
  const node = nodesById.value.get(id);
  const workload = node?.workload && `${node.workload}${node.workload_kind ? ` (${node.workload_kind})` : ""}`;
  const facts: [string, string | undefined][] = [
    ["Cluster", node?.cluster],
    ["Namespace", node?.namespace],
    ["Workload", workload],
    ["Service", node?.service],
    ["Node", node?.node],
    ["Zone", node?.zone],
    ["Addresses", addresses(node?.addresses ?? [])],
  ];
  const folded = id.endsWith("/*") || id === OUTSIDE;
  const grouping = labelKey(group.value) === undefined ? group.value : "label";
  const what = node?.kind === "group" && !folded ? grouping : shape(node?.kind).name;
  return (
    <>
      <h2>
        <Shape kind={node?.kind} group={node?.namespace} />
        <span>{node?.name || id}</span>
        <small>{what}</small>
      </h2>
      <FactList facts={facts.filter((fact): fact is Facts[number] => Boolean(fact[1]))} />
      {node?.namespace && (id === everyPod(node.namespace) || group.value === "namespace") && (
        <p class="open">
          <button onClick={() => openNamespace(node.namespace!)}>Open namespace {node.namespace}</button>
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
