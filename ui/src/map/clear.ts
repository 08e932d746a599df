import type { SimulationLinkDatum, SimulationNodeDatum } from "d3-force";

interface Body extends SimulationNodeDatum {
  x: number;
  y: number;
}

/** How far a node keeps from a line that is not its own. */
const DISTANCE = 46;
/** Above this many pairs the picture is a crowd anyway, and time counts. */
const MOST = 60_000;

/** A force that moves nodes off the lines of others, and those lines off the nodes: what touches looks related. */
export function clearLinks(links: readonly SimulationLinkDatum<Body>[]) {
  let bodies: Body[] = [];
  const force = (alpha: number) => {
    if (bodies.length * links.length > MOST) return;
    for (const link of links) {
      const [a, b] = [link.source as Body, link.target as Body];
      const [dx, dy] = [b.x - a.x, b.y - a.y];
      const length = Math.hypot(dx, dy) || 1;
      for (const c of bodies) {
        if (c === a || c === b) continue;
        const t = ((c.x - a.x) * dx + (c.y - a.y) * dy) / (length * length);
        if (t < 0.05 || t > 0.95) continue;
        const away = ((c.x - a.x) * -dy + (c.y - a.y) * dx) / length;
        if (Math.abs(away) >= DISTANCE) continue;
        const push = (Math.sign(away) || 1) * (DISTANCE - Math.abs(away)) * alpha * 0.5;
        const [px, py] = [(-dy / length) * push, (dx / length) * push];
        c.vx = (c.vx ?? 0) + px;
        c.vy = (c.vy ?? 0) + py;
        for (const end of [a, b]) {
          end.vx = (end.vx ?? 0) - px / 2;
          end.vy = (end.vy ?? 0) - py / 2;
        }
      }
    }
  };
  force.initialize = (all: Body[]) => (bodies = all);
  return force;
}
