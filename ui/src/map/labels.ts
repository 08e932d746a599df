// Which labels are drawn and where: the important first, none over another. Pure.

import { overlap, type Box } from "./separate";

export interface LabelWish {
  key: string;
  text: string;
  width: number;
  /** To be shown where there is no room for all of it. */
  shorter?: { text: string; width: number };
  height: number;
  /** Centres where it may stand, best first. */
  places: { x: number; y: number }[];
  /** Higher is placed earlier. */
  priority: number;
  /** Drawn at its best place even over others: what somebody points at. */
  always?: boolean;
}

export interface PlacedLabel {
  key: string;
  text: string;
  x: number;
  y: number;
}

export function placeLabels(wishes: readonly LabelWish[], obstacles: readonly Box[] = []): PlacedLabel[] {
  const taken: Box[] = [...obstacles];
  const placed: PlacedLabel[] = [];
  const order = [...wishes].sort(
    (a, b) => Number(b.always ?? false) - Number(a.always ?? false) || b.priority - a.priority || (a.key < b.key ? -1 : 1),
  );
  for (const wish of order) {
    const boxes = (width: number) =>
      wish.places.map(({ x, y }) => ({
        x,
        y,
        left: x - width / 2,
        right: x + width / 2,
        top: y - wish.height / 2,
        bottom: y + wish.height / 2,
      }));
    const free = (width: number) => boxes(width).find((box) => !taken.some((other) => overlap(box, other)));
    let text = wish.text;
    let place = free(wish.width) ?? (wish.always ? boxes(wish.width)[0] : undefined);
    if (place === undefined && wish.shorter) [text, place] = [wish.shorter.text, free(wish.shorter.width)];
    if (place === undefined) continue;
    taken.push(place);
    placed.push({ key: wish.key, text, x: place.x, y: place.y });
  }
  return placed;
}
