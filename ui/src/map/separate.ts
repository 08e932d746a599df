export interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export const overlap = (a: Box, b: Box): boolean =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

/**
 * Pushes overlapping boxes apart along the shorter way, each by half of `share` of the overlap. A way down counts
 * `steep` times as long as one aside.
 */
export function separateBoxes(
  boxes: readonly Box[],
  share: number,
  move: (index: number, dx: number, dy: number) => void,
  steep = 1,
): void {
  // Swept from left to right: only neighbours are compared, so that a large map stays cheap.
  const order = boxes.map((_, i) => i).sort((a, b) => boxes[a]!.left - boxes[b]!.left || a - b);
  for (let i = 0; i < order.length; i++) {
    const a = boxes[order[i]!]!;
    for (let j = i + 1; j < order.length; j++) {
      const b = boxes[order[j]!]!;
      if (b.left >= a.right) break;
      if (!overlap(a, b)) continue;
      const right = a.left + a.right <= b.left + b.right;
      const below = a.top + a.bottom <= b.top + b.bottom;
      const dx = right ? a.right - b.left : a.left - b.right;
      const dy = below ? a.bottom - b.top : a.top - b.bottom;
      const half = share / 2;
      if (Math.abs(dx) < Math.abs(dy) * steep) {
        move(order[i]!, -dx * half, 0);
        move(order[j]!, dx * half, 0);
      } else {
        move(order[i]!, 0, -dy * half);
        move(order[j]!, 0, dy * half);
      }
    }
  }
}
