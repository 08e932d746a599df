import type { MapEdge } from "../api/types";
import { Shape } from "../map/Shape";
import { select } from "../state/actions";
import { edgeKey } from "../state/diff";
import { mapSeconds, nodesById } from "../state/store";
import { troubles, troubleText } from "../state/totals";
import { count, rate } from "../text/format";

const MOST = 50;

/** The edges of a node, busiest first; `end` is the end to name. */
export function EdgeList(props: { title: string; edges: readonly MapEdge[]; end: "source" | "destination" }) {
  if (props.edges.length === 0) return null;
  const sorted = [...props.edges].sort((a, b) => b.bytes + b.reply_bytes - a.bytes - a.reply_bytes);
  return (
    <>
      <h3>
        {props.title} <small>{count(sorted.length)}</small>
      </h3>
      <ul class="peers">
        {sorted.slice(0, MOST).map((edge) => (
          <Peer key={edgeKey(edge)} edge={edge} id={edge[props.end]} />
        ))}
      </ul>
      {sorted.length > MOST && <p class="note">and {count(sorted.length - MOST)} more in the Connections tab</p>}
    </>
  );
}

function Peer({ edge, id }: { edge: MapEdge; id: string }) {
  const node = nodesById.value.get(id);
  const { source, destination, port, proto } = edge;
  const bad = troubles(edge);
  return (
    <li>
      <button onClick={() => select({ type: "edge", source, destination, port, proto })}>
        <Shape kind={node?.kind} group={node?.namespace} />
        <span class="name">
          {id}
          <small>{port ? `:${port}` : ` ${proto}`}</small>
        </span>
        {bad > 0 && <b class="bad-text" title={troubleText(edge)}>⚠ {count(bad)}</b>}
        <span class="number">{rate((edge.bytes + edge.reply_bytes) / mapSeconds.value)}</span>
      </button>
    </li>
  );
}
