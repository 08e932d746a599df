import { Shape } from "../map/Shape";
import type { Row } from "../state/records";
import { clock } from "../text/format";
import { bytesText, ends, ICONS, lostText, packetsText, reason, sentence, type End } from "./cells";
import { pickRow } from "./cursor";

export const ROW_HEIGHT = 27;

/** A row stands at its place in the list by a transform: the list is long, the page holds what is in sight. */
export function FlowRow({ row, index, current }: { row: Row; index: number; current: boolean }) {
  const { record: r, severity } = row;
  const common = {
    role: "row" as const,
    id: `row-${row.id}`,
    "aria-rowindex": index + 2,
    "aria-selected": current,
    style: { transform: `translateY(${index * ROW_HEIGHT}px)` },
  };
  if (severity === "lost") {
    return (
      <div {...common} class="row lost" data-kind="lost">
        <span role="gridcell" class="time">{clock(r.time)}</span>
        <span role="gridcell" class="whole">
          <span aria-hidden="true">{ICONS.lost}</span> {lostText(r)}
        </span>
      </div>
    );
  }
  const { source, destination } = ends(r);
  return (
    <div {...common} class={`row ${severity}`} data-kind={r.kind} title={sentence(r)} onClick={() => pickRow(row)}>
      <span role="gridcell" class="time">{clock(r.time)}</span>
      <EndCell end={source} />
      <EndCell end={destination} />
      <span role="gridcell">{r.proto}</span>
      <span role="gridcell" class="kind">
        <span class="icon" aria-hidden="true">{ICONS[severity]}</span>
        {r.kind}
      </span>
      <span role="gridcell" class="why">
        {r.verdict !== "forwarded" && r.verdict !== "unknown" && <b>{r.verdict}</b>} {reason(r)}
      </span>
      <span role="gridcell" class="number">{packetsText(r)}</span>
      <span role="gridcell" class="number">{bytesText(r)}</span>
      <span role="gridcell" class="seen">
        {r.reporter}
        {r.node && <small>{r.node}</small>}
      </span>
    </div>
  );
}

function EndCell({ end }: { end: End }) {
  return (
    <span role="gridcell" class="end">
      <Shape kind={end.kind} group={end.group} />
      {end.group && <span class="ns">{end.group}/</span>}
      <span class="name">{end.name}</span>
      <span class="port">{end.port}</span>
      {end.age && (
        <span class="age warn-text" title={end.age}>
          <span aria-hidden="true">◷</span>
          <span class="hidden">{end.age}</span>
        </span>
      )}
    </span>
  );
}
