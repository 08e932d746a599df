import { Copy } from "./Copy";
import { widen } from "./state/actions";
import type { EmptyState } from "./state/empty";
import { namespace, search } from "./state/store";

export function EmptyView({ state }: { state: EmptyState }) {
  return (
    <div class="empty" data-empty={state.id} role="status">
      <h2>{state.title}</h2>
      {state.text && <p>{state.text}</p>}
      {state.command && <Copy text={state.command} />}
      {state.action === "clear-search" && <button onClick={() => (search.value = "")}>Clear the search</button>}
      {state.action === "clear-namespace" && (
        <button onClick={() => (namespace.value = "")}>Show all namespaces</button>
      )}
      {state.action === "widen" && <button onClick={widen}>Look further back</button>}
    </div>
  );
}
