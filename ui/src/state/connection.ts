/** How the page stands with the relay, from its two conversations: the live stream and the polls. */
export interface Health {
  streamUp: boolean;
  streamSince: number;
  pollOk: boolean;
  pollSince: number;
  attempt: number;
  /** Whether anything has answered yet. */
  everUp: boolean;
}

export type ConnectionState = "connecting" | "live" | "reconnecting" | "unreachable";

export interface Connection {
  state: ConnectionState;
  since: number;
}

export function connection(h: Health): Connection {
  if (h.streamUp && h.pollOk) return { state: "live", since: Math.max(h.streamSince, h.pollSince) };
  if (!h.streamUp && !h.pollOk) {
    return { state: "unreachable", since: h.everUp ? Math.min(h.streamSince, h.pollSince) : h.pollSince };
  }
  if (!h.everUp) return { state: "connecting", since: h.streamSince };
  return { state: "reconnecting", since: h.streamUp ? h.pollSince : h.streamSince };
}
