import { useSignal } from "@preact/signals";

const bounded = (percent: number): number => Math.min(80, Math.max(20, percent));

/** Shares the page between map and table, by mouse and by arrow keys. */
export function Splitter() {
  const share = useSignal(56);
  const set = (percent: number) => {
    share.value = bounded(percent);
    document.documentElement.style.setProperty("--map-share", `${share.value}%`);
  };
  const onPointerDown = (event: PointerEvent & { currentTarget: HTMLElement }) => {
    const main = event.currentTarget.parentElement!.getBoundingClientRect();
    const bar = event.currentTarget;
    bar.setPointerCapture(event.pointerId);
    bar.onpointermove = (e) => set(((e.clientY - main.top) / main.height) * 100);
    bar.onpointerup = bar.onpointercancel = () => (bar.onpointermove = null);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    set(share.value + (event.key === "ArrowDown" ? 4 : -4));
    event.preventDefault();
  };
  return (
    <div
      class="splitter"
      role="separator"
      aria-orientation="horizontal"
      aria-label="Height of the map"
      aria-valuenow={Math.round(share.value)}
      aria-valuemin={20}
      aria-valuemax={80}
      tabIndex={0}
      onPointerDown={onPointerDown}
      onKeyDown={onKeyDown}
    />
  );
}
