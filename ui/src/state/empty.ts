// Why there is nothing to see, and what to do about it. Pure.

import type { Status } from "../api/types";
import { clock, plural } from "../text/format";

export interface Facts {
  unreachableSince: number | undefined;
  status: Status | undefined;
  loaded: boolean;
  /** Edges in the window: in all namespaces, with the namespace filter, with filter and search. */
  edges: number;
  inNamespace: number;
  shown: number;
  window: string;
  namespace: string;
  search: string;
  relay: string;
  /** The sentence of a relay that answers with an error. */
  error: string | undefined;
}

export interface EmptyState {
  id: "unreachable" | "error" | "loading" | "no-agent" | "no-flows" | "filtered";
  title: string;
  text: string;
  command?: string;
  action?: "clear-search" | "clear-namespace" | "widen";
}

export function emptyState(f: Facts): EmptyState | undefined {
  if (f.shown > 0) return undefined;
  if (f.unreachableSince !== undefined) {
    return {
      id: "unreachable",
      title: "The relay cannot be reached",
      text: `No answer from ${f.relay} since ${clock(f.unreachableSince, false)}. This page keeps trying. Is the relay running, and is this address still right?`,
      command: "flowobs-relay",
    };
  }
  if (f.error !== undefined) return { id: "error", title: "The relay cannot answer", text: f.error };
  if (!f.loaded) return { id: "loading", title: "Asking the relay…", text: "" };
  if (f.edges > 0 || f.inNamespace > 0) return filtered(f);
  const agents = f.status?.agents.filter((a) => a.connected).length ?? 0;
  if (f.status !== undefined && agents === 0) {
    const gone = f.status.agents.length;
    return {
      id: "no-agent",
      title: gone > 0 ? "All agents are disconnected" : "No agent is connected",
      text:
        gone > 0
          ? `${plural(gone, "agent")} reported before and none does now. Look at one of them:`
          : "The relay is up and waits for its first agent. On a node, as root:",
      command: gone > 0 ? "flowobs doctor" : agentFor(f.relay),
    };
  }
  return {
    id: "no-flows",
    title: `No flows in the last ${f.window}`,
    text: `${plural(agents, "agent is", "agents are")} connected but saw no traffic. Make some, look further back, or check what the agent can see:`,
    command: "flowobs doctor",
    ...(f.window === "1h" ? {} : { action: "widen" as const }),
  };
}

/** An agent looks for the relay on its own machine unless told. */
function agentFor(relay: string): string {
  const { hostname } = new URL(`http://${relay}`);
  return /^(localhost|127\..*|\[::1\])$/.test(hostname) ? "flowobs agent" : `flowobs agent --relay ${hostname}:4243`;
}

function filtered(f: Facts): EmptyState {
  if (f.namespace && f.inNamespace === 0) {
    return {
      id: "filtered",
      title: `Nothing in namespace ${f.namespace}`,
      text: `${plural(f.edges, "connection")} in other namespaces ${f.edges === 1 ? "is" : "are"} hidden.`,
      action: "clear-namespace",
    };
  }
  return {
    id: "filtered",
    title: `Nothing matches “${f.search.trim()}”`,
    text: `${plural(f.inNamespace, "connection")} hidden by the search.`,
    action: "clear-search",
  };
}
