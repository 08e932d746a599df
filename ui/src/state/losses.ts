import type { Status } from "../api/types";

export interface Loss {
  where: string;
  lost: number;
}

const SENTENCES: Record<string, string> = {
  subscriber_slow: "live viewers that read too slowly",
};

/** Every place that says it lost records, worst first. */
export function losses(status: Status | undefined): Loss[] {
  if (status === undefined) return [];
  return [
    ...status.agents.map((a) => ({ where: `agent ${a.agent}`, lost: a.lost })),
    ...Object.entries(status.lost).map(([reason, lost]) => ({ where: SENTENCES[reason] ?? reason, lost })),
  ]
    .filter((loss) => loss.lost > 0)
    .sort((a, b) => b.lost - a.lost);
}

export const totalLost = (all: readonly Loss[]): number => all.reduce((sum, loss) => sum + loss.lost, 0);
