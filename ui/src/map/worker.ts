import { layout, type LayoutInput } from "./layout";

/** One question, one answer; `turn` tells an answer to an old question. */
export interface LayoutRequest extends LayoutInput {
  turn: number;
}

self.onmessage = (event: MessageEvent<LayoutRequest>) => {
  self.postMessage({ turn: event.data.turn, points: layout(event.data) });
};
